"""Keeps stored buckets of long series: recomputed whole from the points, in the background, never incremented.

A rollup says which buckets are stored and which blocks they have seen. Blocks carry the time at which they were made, so a
reader finds in `points` what came later, and reads those buckets anew; see points_read_plan.py. `margin_s` must be longer
than an insert may take from that time until its rows are visible: only then has a rollup seen all blocks that it covers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_plan import SPANS_MAX, join_buckets
from runyard_server.storage.clickhouse.points_read_sql import Rollup, Series, Span, touched_sql
from runyard_server.storage.clickhouse.rollup_sql import (
    candidates_sql,
    insert_buckets_sql,
    insert_rollup_sql,
    rollup_sql,
    settled_sql,
    withdraw_sql,
)

log = logging.getLogger("runyard.rollup")

EVENT_ROLLUP_FAILED: Final = "rollup_failed"
EVENT_SERIES_ROLLED_UP: Final = "series_rolled_up"
SERIES_ROLLED_UP = Counter(
    "runyard_rollup_series_total", "Series whose stored buckets were made or renewed."
)
ROWS_ROLLED_UP = Counter(
    "runyard_rollup_rows_total", "Rows of points in ranges that were rolled up."
)
ROUNDS_FAILED = Counter("runyard_rollup_failed_total", "Rounds that the store could not do.")

_NS_PER_S: Final = 1_000_000_000
_SHIFT_MAX: Final = 48
_REMEMBERED_MAX: Final = 10_000
"""Series that are not looked at in each round, without growth or not settled; beyond it they are all looked at once more."""


@dataclass(frozen=True, slots=True)
class RollupConfig:
    """When and how buckets are stored."""

    interval_s: float = 30.0
    """Pause between rounds."""
    margin_s: float = 180.0
    """How old a block must be to count as seen; longer than an insert may take, its wait for a client included."""
    row_count_min: int = 65_536
    """Series with fewer points, or that grew by fewer since, are left alone."""
    growth_min: float = 0.02
    """Share by which a series must have grown since."""
    points_per_bucket: int = 1_024
    """Points in a stored bucket, about, when the width is chosen."""
    points_per_bucket_min: int = 32
    """Below it the width is chosen anew: the steps have become sparser."""
    rows_per_insert: int = 2_000_000
    """Rows that one statement reads, about: ingest gets its turn between statements."""
    series_per_round_max: int = 256
    """Series in one round; the next round goes on."""
    statement_timeout_s: float = 120.0
    """Longest wait for one statement."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """The rows of a series that a rollup may claim to have seen."""

    row_count: int
    row_count_total: int
    first_step: int
    last_step: int


def build_rollup(config: RollupConfig, *, store: ClickHouse, clock: Clock) -> RollupTask:
    """Returns the task, not started. One at a time is enough; several do the same work and agree."""
    return RollupTask(config, store=store, clock=clock)


class RollupTask:
    """Looks for series that grew, again and again, and stores their buckets. Holds nothing that a restart needs."""

    def __init__(self, config: RollupConfig, *, store: ClickHouse, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._skipped: dict[Series, int] = {}
        self._waiting: dict[Series, int] = {}

    async def run(self) -> None:
        """Rolls up until cancelled; a store that does not answer is asked again in the next round."""
        while True:
            try:
                await self.run_round()
            except (Unavailable, ResourceExhausted) as error:
                ROUNDS_FAILED.inc()
                log.warning(EVENT_ROLLUP_FAILED, extra={"fields": {"problem": error.message}})
            await asyncio.sleep(self._config.interval_s)

    async def run_round(self) -> int:
        """Rolls up what has grown enough and is settled; returns how many series that were."""
        config = self._config
        now = self._clock.now_unix_ns()
        covered_block = now - round(config.margin_s * _NS_PER_S)
        await self._command(
            withdraw_sql(now=now, covered_block=covered_block, limit=config.series_per_round_max)
        )
        table = await self._store.query_arrow(
            candidates_sql(
                rows_min=config.row_count_min,
                growth_min=config.growth_min,
                limit=config.series_per_round_max + len(self._skipped) + len(self._waiting),
            ),
            timeout_s=config.statement_timeout_s,
        )
        done = 0
        for run, metric, size in zip(*table.to_pydict().values(), strict=True):
            series = (run, metric)
            if self._skipped.get(series) != size and self._waiting.get(series, 0) <= covered_block:
                done += await self.roll_up(series, covered_block, size_estimate=size)
        return done

    async def roll_up(self, series: Series, covered_block: int, *, size_estimate: int = 0) -> bool:
        """Rolls up one series if it has grown enough in blocks up to that one; says whether it was."""
        stored = await self._read_stored(series)
        settled = await self._read_settled(series, covered_block)
        before = stored.row_count if stored is not None else 0
        growth_min = max(self._config.row_count_min, round(before * self._config.growth_min))
        if settled.row_count - before < growth_min:
            if settled.row_count == settled.row_count_total:
                # The estimate was wrong; waiting does not help.
                _remember(self._skipped, series, size_estimate)
            else:
                # What is here now is settled once the covered block reaches the present.
                _remember(self._waiting, series, self._clock.now_unix_ns())
            return False
        shift = self._choose_shift(settled, stored)
        if stored is not None and stored.shift != shift:
            stored = None
        rollup = Rollup(
            shift=shift,
            end_bucket=(settled.last_step >> shift) + 1,
            covered_block=covered_block,
            row_count=settled.row_count,
        )
        if stored is not None:
            rollup = dataclasses.replace(
                rollup, end_bucket=max(rollup.end_bucket, stored.end_bucket)
            )
        version = self._clock.now_unix_ns()
        spans = await self._stale_spans(series, rollup, stored, settled)
        for span in spans:
            await self._command(insert_buckets_sql(series, [span], shift=shift, version=version))
        # Last, so that it speaks only of buckets that are there.
        await self._command(insert_rollup_sql(series, rollup, version=version))
        SERIES_ROLLED_UP.inc()
        ROWS_ROLLED_UP.inc(settled.row_count - before)
        fields = {"run": series[0], "metric": series[1], "rows": settled.row_count, "shift": shift}
        log.debug(EVENT_SERIES_ROLLED_UP, extra={"fields": fields})
        return True

    async def _read_stored(self, series: Series) -> Rollup | None:
        table = await self._store.query_arrow(rollup_sql(series))
        rows = table.to_pylist()
        return Rollup(**rows[0]) if rows else None

    async def _read_settled(self, series: Series, covered_block: int) -> _Settled:
        table = await self._store.query_arrow(
            settled_sql(series, covered_block=covered_block),
            timeout_s=self._config.statement_timeout_s,
        )
        return _Settled(**table.to_pylist()[0])

    def _choose_shift(self, settled: _Settled, stored: Rollup | None) -> int:
        """Returns the stored width while it still gathers enough points, else the one that gathers as many as wanted."""
        steps = settled.last_step - settled.first_step + 1
        if stored is not None:
            buckets = (steps >> stored.shift) + 1
            if settled.row_count >= buckets * self._config.points_per_bucket_min:
                return stored.shift
        width = max(1, steps * self._config.points_per_bucket // settled.row_count)
        return min(width.bit_length() - 1, _SHIFT_MAX)

    async def _stale_spans(
        self, series: Series, rollup: Rollup, stored: Rollup | None, settled: _Settled
    ) -> list[Span]:
        """Returns the ranges of steps whose buckets must be made, in pieces that one statement may read."""
        shift = rollup.shift
        ranges: list[tuple[int, int]] = []
        first = settled.first_step >> shift
        if stored is not None:
            below = Span(None, stored.end_bucket << shift)
            table = await self._store.query_arrow(
                touched_sql([(series, stored, below)]), timeout_s=self._config.statement_timeout_s
            )
            ranges = join_buckets(table.column("bucket").to_pylist(), count_max=SPANS_MAX)
            first = stored.end_bucket
        ranges.append((first, rollup.end_bucket))
        buckets = ((settled.last_step - settled.first_step) >> shift) + 1
        piece = max(1, self._config.rows_per_insert * buckets // settled.row_count)
        return [
            Span(begin << shift, min(begin + piece, end) << shift)
            for start, end in ranges
            for begin in range(start, end, piece)
        ]

    async def _command(self, sql: str) -> None:
        await self._store.command(sql, timeout_s=self._config.statement_timeout_s)


def _remember(memory: dict[Series, int], series: Series, value: int) -> None:
    if len(memory) >= _REMEMBERED_MAX:
        memory.clear()
    memory[series] = value
