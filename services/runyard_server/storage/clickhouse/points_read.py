"""Reads series, buckets, metrics, summaries and receipts from ClickHouse: the port PointReader."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pyarrow as pa

from runyard_server.domain.points import metric_id
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_buckets import BucketReader
from runyard_server.storage.clickhouse.points_read_columns import (
    column,
    empty_points,
    read_points,
    read_stats,
    texts,
)
from runyard_server.storage.clickhouse.points_read_plan import STEP_MAX, span_of_steps
from runyard_server.storage.clickhouse.points_read_receipts_sql import (
    RECEIPT_COLUMNS,
    joined_receipts_sql,
    receipts_sql,
)
from runyard_server.storage.clickhouse.points_read_sql import SETTINGS, Series, Span, points_sql
from runyard_server.storage.clickhouse.points_scoped import ScopedReader
from runyard_server.storage.clickhouse.points_scoped_stats import ScopedStatsReader
from runyard_server.storage.clickhouse.points_scoped_stats_sql import NAME_MATCHES
from runyard_server.storage.ports.points import (
    NO_SCOPES,
    BucketColumns,
    MetricStats,
    ReceiptRange,
    Scope,
    Scopes,
    SeriesKey,
    SeriesPoints,
    SummaryEntry,
)

RECEIPTS_MAX: Final = 5_000
"""A run with more receipts gets those that adjoin joined: a month of one writer is a million of them."""
_STATS: Final = """
SELECT run, any(name) AS metric_name, min(first_step) AS step_low, max(last_step) AS step_high,
    min(lowest) AS low, max(highest) AS high, min(first) AS first_point, max(last) AS last_point
FROM series WHERE {where} GROUP BY run, metric"""
_STATS_COLUMNS: Final = """run, metric_name, step_low, step_high, low, high, tupleElement(first_point, 5) AS first_value,
    tupleElement(last_point, 5) AS last_value, tupleElement(last_point, 4) AS last_time"""


class ClickHousePointReader:
    """The port PointReader over ClickHouse. Holds no state: any number may read one store."""

    def __init__(self, store: ClickHouse, *, receipts_max: int = RECEIPTS_MAX) -> None:
        self._store = store
        self._receipts_max = receipts_max
        self._buckets = BucketReader(store)
        self._scoped = ScopedReader(store)
        self._scoped_stats = ScopedStatsReader(store, self._scoped.long)

    async def read_series(
        self,
        run_key: RunKey,
        metrics: Sequence[str],
        *,
        first_step: int | None,
        last_step: int | None,
        limit: int,
        scopes: Scopes = NO_SCOPES,
    ) -> tuple[list[SeriesPoints], int | None]:
        """Returns points in (step, writer) order, complete below `next_step`; see the port."""
        assert limit >= 1, limit
        steps = span_of_steps(first_step, last_step)
        ids = {metric: metric_id(metric) for metric in metrics}
        if not ids or steps.is_empty:
            return [empty_points() for _ in metrics], None
        keys = [(int(run_key), ids[metric]) for metric in ids]
        found = await self._read_points(keys, steps, limit=limit + 1, scopes=scopes)
        cuts = [int(points.steps[limit]) for points in found.values() if len(points.steps) > limit]
        next_step = min(cuts, default=None)
        if next_step is not None:
            found = {key: _below(points, next_step) for key, points in found.items()}
            if not any(len(points.steps) for points in found.values()):
                # More writers than `limit` logged this step: a step is never torn, so it comes whole.
                one_step = span_of_steps(next_step, next_step)
                found = await self._read_points(keys, one_step, limit=None, scopes=scopes)
                next_step = None if next_step in (last_step, STEP_MAX) else next_step + 1
        empty = empty_points()
        return [found.get((int(run_key), ids[metric]), empty) for metric in metrics], next_step

    async def read_buckets(
        self,
        series: Sequence[SeriesKey],
        *,
        first_step: int | None,
        last_step: int | None,
        bucket_count_max: int,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[SeriesKey, BucketColumns]:
        """Returns downsampled series; see the port."""
        steps = span_of_steps(first_step, last_step)
        keys = _by_id(series)
        if not keys or steps.is_empty:
            return {}
        plain, scoped = _split(keys, scopes)
        found = await self._buckets.read(plain, steps, bucket_count_max=bucket_count_max)
        if scoped:
            found |= await self._scoped.read_buckets(
                scoped, steps, bucket_count_max=bucket_count_max
            )
        return {keys[one]: buckets for one, buckets in found.items()}

    async def list_metrics(
        self,
        run_key: RunKey,
        *,
        name_contains: str,
        after_name: str,
        limit: int,
        scopes: Scopes = NO_SCOPES,
    ) -> tuple[list[MetricStats], int]:
        """Returns metrics by name in byte order, and how many match in all."""
        scope = scopes.get(run_key)
        if scope is not None:
            return await self._scoped_stats.list_metrics(
                int(run_key), scope, name_contains=name_contains, after_name=after_name, limit=limit
            )
        named = _STATS.format(where=f"run = {int(run_key)}")
        # One query for both: the count is taken before the page is cut, and stands in a row of its own.
        sql = (
            f"WITH matching AS (SELECT * FROM ({named}\n) WHERE {NAME_MATCHES})"
            f"\nSELECT {_STATS_COLUMNS}, (SELECT count() FROM matching) AS total FROM matching"
            "\nWHERE metric_name > {after:String} OR {after:String} = ''"
            f"\nORDER BY metric_name LIMIT {limit}"
        )
        parameters = {"text": name_contains, "after": after_name}
        table = await self._store.query_arrow(sql, parameters)
        if table.num_rows:
            return _named_stats(table), int(column(table, "total")[0])
        if not after_name:
            return [], 0
        _, total = await self.list_metrics(
            run_key, name_contains=name_contains, after_name="", limit=1
        )
        return [], total

    async def read_metric_stats(
        self,
        run_keys: Sequence[RunKey],
        *,
        metrics: Sequence[str] | None,
        limit_per_run: int | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[RunKey, list[MetricStats]]:
        """Returns the stats of metrics of many runs at once, by name."""
        if not run_keys or (metrics is not None and not metrics):
            return {}
        found: dict[RunKey, list[MetricStats]] = {}
        ids = () if metrics is None else tuple({metric_id(metric) for metric in metrics})
        for run_key in run_keys:
            if run_key in scopes:
                own, _ = await self._scoped_stats.list_metrics(
                    int(run_key), scopes[run_key], metrics=ids, limit=limit_per_run
                )
                if own:
                    found[run_key] = own
        run_keys = [run_key for run_key in run_keys if run_key not in scopes]
        if not run_keys:
            return found
        where = f"run IN ({_join(run_keys)})"
        if metrics is not None:
            where += f" AND metric IN ({_join(ids)})"
        cut = "" if limit_per_run is None else f" LIMIT {limit_per_run} BY run"
        stats = _STATS.format(where=where)
        table = await self._store.query_arrow(
            f"SELECT {_STATS_COLUMNS} FROM ({stats}\n) ORDER BY run, metric_name{cut}"
        )
        for run, one in zip(column(table, "run").tolist(), _named_stats(table), strict=True):
            found.setdefault(RunKey(run), []).append(one)
        return found

    async def read_last_step(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> int | None:
        """Returns the largest step of any metric of the run, or None without points."""
        if run_key in scopes:
            return await self._scoped.read_last_step(int(run_key), scopes[run_key])
        table = await self._store.query_arrow(
            f"SELECT count() AS n, max(last_step) AS step FROM series WHERE run = {int(run_key)}"
        )
        return int(column(table, "step")[0]) if int(column(table, "n")[0]) else None

    async def read_means(
        self, series: Sequence[SeriesKey], *, scopes: Scopes = NO_SCOPES
    ) -> dict[SeriesKey, float]:
        """Returns the mean of the finite values of each series; NaN if none is finite."""
        keys = _by_id(series)
        plain, scoped = _split(keys, scopes)
        found = await self._buckets.read_means(plain) if plain else {}
        if scoped:
            found |= await self._scoped.read_means(scoped)
        return {key: found.get(one, math.nan) for one, key in keys.items()}

    async def read_summaries(self, run_keys: Sequence[RunKey]) -> dict[RunKey, list[SummaryEntry]]:
        """Returns the summary entries that the scripts set themselves, by key."""
        if not run_keys:
            return {}
        table = await self._store.query_arrow(
            "SELECT run, key, value_json FROM summaries FINAL"
            f"\nWHERE run IN ({_join(run_keys)}) AND is_removed = 0 ORDER BY run, key {SETTINGS}"
        )
        found: dict[RunKey, list[SummaryEntry]] = {}
        keys, values = texts(table, "key"), texts(table, "value_json")
        for run, key, value in zip(column(table, "run").tolist(), keys, values, strict=True):
            found.setdefault(RunKey(run), []).append(SummaryEntry(key=key, value_json=value))
        return found

    async def read_receipts(self, run_key: RunKey) -> list[ReceiptRange]:
        """Returns the receipts of the run, by (writer, first_sequence); joined where there are very many."""
        table = await self._store.query_arrow(receipts_sql(run_key, limit=self._receipts_max + 1))
        if table.num_rows > self._receipts_max:
            table = await self._store.query_arrow(joined_receipts_sql(run_key))
        columns = [column(table, name).tolist() for name in RECEIPT_COLUMNS]
        return [ReceiptRange(*row) for row in zip(*columns, strict=True)]

    async def _read_points(
        self, keys: Sequence[Series], steps: Span, *, limit: int | None, scopes: Scopes
    ) -> dict[Series, SeriesPoints]:
        plain, scoped = _split(keys, scopes)
        if scoped:
            assert not plain, "one run is read at a time"
            return await self._scoped.read_points(scoped, steps, limit=limit)
        return read_points(await self._store.query_arrow(points_sql(plain, steps, limit=limit)))


def _split(series: Iterable[Series], scopes: Scopes) -> tuple[list[Series], dict[Series, Scope]]:
    """Returns the series that are read plainly, and those of runs with a scope."""
    plain: list[Series] = []
    scoped: dict[Series, Scope] = {}
    for one in series:
        scope = scopes.get(RunKey(one[0]))
        if scope is None:
            plain.append(one)
        else:
            scoped[one] = scope
    return plain, scoped


def _by_id(series: Sequence[SeriesKey]) -> Mapping[Series, SeriesKey]:
    return {(int(key.run_key), metric_id(key.metric)): key for key in series}


def _below(points: SeriesPoints, step: int) -> SeriesPoints:
    end = int(points.steps.searchsorted(step))
    return SeriesPoints(
        steps=points.steps[:end],
        times_unix_ns=points.times_unix_ns[:end],
        values=points.values[:end],
        writers=points.writers[:end],
    )


def _named_stats(table: pa.Table) -> list[MetricStats]:
    return list(read_stats(texts(table, "metric_name"), table))


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(str(int(number)) for number in numbers)
