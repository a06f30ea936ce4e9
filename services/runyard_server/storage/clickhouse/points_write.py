"""Writes blocks into ClickHouse: points, series, summaries, lines and media at once, receipts last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runyard_server.domain.clock import Clock
from runyard_server.domain.points import Journal, UInt64Column, metric_ids
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.console_block import line_rows, writer_rows
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.media_block import media_rows
from runyard_server.storage.clickhouse.points_block import (
    PointColumns,
    SeriesColumns,
    expand_block,
)
from runyard_server.storage.clickhouse.system_block import sample_rows
from runyard_server.storage.ports.points import BlockEntry

Columns: TypeAlias = dict[str, NDArray[Any]]

_WRITER_SHIFT = 40
_SEQUENCE_INVERSE = np.uint64(2**64 - 1)
_POINT = pa.struct(
    [
        pa.field("1", pa.int64(), nullable=False),
        pa.field("2", pa.uint32(), nullable=False),
        pa.field("3", pa.uint64(), nullable=False),
        pa.field("4", pa.int64(), nullable=False),
        pa.field("5", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a block, by table; None where there are none."""

    points: Columns | None
    series: pa.Table | None
    summaries: pa.Table | None
    lines: pa.Table | None
    samples: pa.Table | None
    media: pa.Table | None
    receipts: Columns


class ClickHousePointWriter:
    """Keeps the promises of PointWriter; see storage.ports.points.

    A receipt is inserted when all that it covers is durable: whoever reads it may rely on the rest.
    """

    def __init__(self, clickhouse: ClickHouse, *, clock: Clock) -> None:
        self._clickhouse = clickhouse
        self._clock = clock
        self._block_unix_ns = 0

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        """Stores the block; see PointWriter."""
        if not entries:
            return
        rows = await asyncio.to_thread(_make_rows, entries, self._draw_block_time())
        inserts = []
        if rows.points is not None and rows.series is not None:
            inserts.append(self._clickhouse.insert_columns("points", rows.points))
            inserts.append(self._clickhouse.insert_arrow("series", rows.series))
        if rows.summaries is not None:
            inserts.append(self._clickhouse.insert_arrow("summaries", rows.summaries))
        if rows.lines is not None:
            inserts.append(self._clickhouse.insert_arrow("console", rows.lines))
            inserts.append(
                self._clickhouse.insert_arrow("console_writers", writer_rows(rows.lines))
            )
        if rows.samples is not None:
            inserts.append(self._clickhouse.insert_arrow("system_points", rows.samples))
        if rows.media is not None:
            inserts.append(self._clickhouse.insert_arrow("media", rows.media))
        # All end before this call does: a repeat must not race with a part of the first try that is still going on.
        results = await asyncio.gather(*inserts, return_exceptions=True)
        for result in results:
            if result is not None:
                raise result
        await self._clickhouse.insert_columns("receipts", rows.receipts)

    async def read_metric_ids(
        self, run_key: RunKey, *, limit: int, journal: Journal = Journal.RUN
    ) -> UInt64Column:
        """Returns ids of the run's metrics; see PointWriter."""
        if journal == Journal.SYSTEM:
            names = await self._clickhouse.query_arrow(
                "SELECT DISTINCT toString(metric) AS name FROM system_points"
                " WHERE run = {run:UInt64} LIMIT {limit:UInt64}",
                {"run": run_key, "limit": limit},
            )
            return metric_ids(names["name"].to_pylist())
        table = await self._clickhouse.query_arrow(
            "SELECT DISTINCT metric FROM series WHERE run = {run:UInt64} LIMIT {limit:UInt64}",
            {"run": run_key, "limit": limit},
        )
        ids: UInt64Column = table["metric"].to_numpy()
        return ids

    async def read_media_ids(self, run_key: RunKey, *, limit: int) -> UInt64Column:
        """Returns ids of the run's names of media; see PointWriter."""
        table = await self._clickhouse.query_arrow(
            "SELECT DISTINCT name FROM media WHERE run = {run:UInt64} LIMIT {limit:UInt64}",
            {"run": run_key, "limit": limit},
        )
        return metric_ids(table["name"].to_pylist())

    def _draw_block_time(self) -> int:
        """Returns the time of a block: Unix ns, above all that this process gave before, whatever the clock does."""
        self._block_unix_ns = max(self._block_unix_ns + 1, self._clock.now_unix_ns())
        return self._block_unix_ns


def _make_rows(entries: Sequence[BlockEntry], block_unix_ns: int) -> _Rows:
    own = [entry for entry in entries if entry.batch.journal == Journal.RUN]
    expanded = expand_block(own)
    points = series = None
    if expanded is not None:
        points = _point_columns(expanded[0], block_unix_ns)
        series = _series_rows(*expanded)
    return _Rows(
        points,
        series,
        _summary_rows(own),
        line_rows([entry.batch for entry in entries], block_unix_ns),
        sample_rows([entry.batch for entry in entries]),
        media_rows([entry.batch for entry in own]),
        _receipt_columns(own),
    )


def _point_columns(points: PointColumns, block_unix_ns: int) -> Columns:
    return {
        "run": points.runs,
        "metric": points.metrics,
        "step": points.steps,
        "writer": points.writers,
        "time": points.times_unix_ms,
        "value": points.values,
        "sequence": points.sequences,
        "block": np.full(points.steps.size, block_unix_ns, np.uint64),
    }


def _series_rows(points: PointColumns, series: SeriesColumns) -> pa.Table:
    return pa.table(
        {
            "run": series.runs,
            "metric": series.metrics,
            "name": pa.array(series.names, pa.string()),
            "first_step": series.first_steps,
            "last_step": series.last_steps,
            "lowest": series.lows,
            "highest": series.highs,
            "first": _point_tuples(points, series.first_positions, is_inverse=True),
            "last": _point_tuples(points, series.last_positions, is_inverse=False),
        }
    )


def _point_tuples(
    points: PointColumns, positions: NDArray[np.intp], *, is_inverse: bool
) -> pa.StructArray:
    """Returns (step, writer, sequence, time, value); the sequence inverse where the smallest tuple wins."""
    sequences = points.sequences[positions]
    columns = [
        points.steps[positions],
        points.writers[positions],
        _SEQUENCE_INVERSE - sequences if is_inverse else sequences,
        points.times_unix_ms[positions],
        points.values[positions],
    ]
    return pa.StructArray.from_arrays([pa.array(column) for column in columns], fields=list(_POINT))


def _summary_rows(entries: Sequence[BlockEntry]) -> pa.Table | None:
    """Returns the last change of each key; of one version the later in the batch wins, so it must be chosen here."""
    latest: dict[tuple[int, str], tuple[int, str]] = {}
    for entry in entries:
        batch = entry.batch
        for change in batch.summary_changes:
            version = batch.writer << _WRITER_SHIFT | change.sequence
            key = (batch.run_key, change.key)
            if key not in latest or latest[key][0] <= version:
                latest[key] = (version, change.value_json)
    if not latest:
        return None
    return pa.table(
        {
            "run": pa.array([run for run, _ in latest], pa.uint64()),
            "key": pa.array([key for _, key in latest], pa.string()),
            "value_json": pa.array([value for _, value in latest.values()], pa.string()),
            "is_removed": pa.array([not value for _, value in latest.values()]).cast(pa.uint8()),
            "version": pa.array([version for version, _ in latest.values()], pa.uint64()),
        }
    )


def _receipt_columns(entries: Sequence[BlockEntry]) -> Columns:
    batches = [entry.batch for entry in entries]
    return {
        "run": np.array([batch.run_key for batch in batches], np.uint64),
        "writer": np.array([batch.writer for batch in batches], np.uint32),
        "first_sequence": np.array([batch.first_sequence for batch in batches], np.uint64),
        "last_sequence": np.array([batch.last_sequence for batch in batches], np.uint64),
        "points_accepted": np.array([batch.point_count for batch in batches], np.uint64),
        "points_rejected": np.array([entry.points_rejected for entry in entries], np.uint64),
    }
