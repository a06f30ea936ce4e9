"""Reads runs with a history of their own (rewound, forked, some writers only), as if it were the run's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from runyard_server.domain.buckets import SHIFT_MAX, bucket_shift
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_columns import (
    Partials,
    as_one_bucket,
    column,
    has_shared_steps,
    merge_partials,
    raw_buckets,
    read_partials,
    read_points,
    rows_of,
)
from runyard_server.storage.clickhouse.points_read_sql import Series, Span
from runyard_server.storage.clickhouse.points_scoped_long import LongScopedReader
from runyard_server.storage.clickhouse.points_scoped_sql import (
    Scoped,
    last_step_sql,
    scoped_extents_sql,
    scoped_partials_sql,
    scoped_points_sql,
    writers_of,
)
from runyard_server.storage.ports.points import BucketColumns, Scope, SeriesPoints

RUNS_PER_QUERY_MAX: Final = 32


class ScopedReader:
    """Answers for the runs of a scope what BucketReader and its kin answer for the others. Holds no state."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store
        self.long = LongScopedReader(store)

    async def read_points(
        self, series: Mapping[Series, Scope], steps: Span, *, limit: int | None
    ) -> dict[Series, SeriesPoints]:
        """Returns the points of each series that has some, at most `limit` of each."""
        found: dict[Series, SeriesPoints] = {}
        for scoped in _by_run(series):
            sql = scoped_points_sql(scoped, steps, limit=limit)
            for one, points in read_points(await self._store.query_arrow(sql)).items():
                found[one] = SeriesPoints(
                    points.steps, points.times_unix_ns, points.values, writers_of(points.writers)
                )
        return found

    async def read_buckets(
        self, series: Mapping[Series, Scope], steps: Span, *, bucket_count_max: int
    ) -> dict[Series, BucketColumns]:
        """Returns the buckets of each series that has points in the range."""
        found = await self.long.read_buckets(series, steps, bucket_count_max=bucket_count_max)
        series = {one: scope for one, scope in series.items() if one not in found}
        for scoped in _by_run(series):
            extents = await self._store.query_arrow(scoped_extents_sql(scoped, steps))
            shifts: dict[Series, int] = {}
            raw: dict[Series, Scope] = {}
            for run, metric, count, first, last in rows_of(extents):
                if count > bucket_count_max:
                    shifts[run, metric] = bucket_shift(first, last, count_max=bucket_count_max)
                else:
                    raw[run, metric] = series[run, metric]
            for one, points in (await self.read_points(raw, steps, limit=None)).items():
                if has_shared_steps(points):
                    shifts[one] = 0
                else:
                    found[one] = raw_buckets(points)
            found.update(await self._read_partials(series, steps, shifts))
        return found

    async def read_means(self, series: Mapping[Series, Scope]) -> dict[Series, float]:
        """Returns the mean of the finite values of each series that has points."""
        long = await self.long.read_whole(series)
        means = {one: float(buckets.means[0]) for one, buckets in long.items()}
        series = {one: scope for one, scope in series.items() if one not in long}
        shifts = dict.fromkeys(series, SHIFT_MAX)
        for scoped in _by_run(series):
            some = {one: shifts[one] for one in series if one[0] in scoped}
            # Steps on both sides of 0 never share a bucket: what is joined here are the two.
            found = merge_partials(
                as_one_bucket(await self._query_partials(series, Span(), some)), some
            )
            means.update({one: float(buckets.means[0]) for one, buckets in found.items()})
        return means

    async def read_last_step(self, run: int, scope: Scope) -> int | None:
        """Returns the largest step of the run, or None without points."""
        table = await self._store.query_arrow(last_step_sql(run, scope))
        return int(column(table, "step")[0]) if int(column(table, "n")[0]) else None

    async def _read_partials(
        self, series: Mapping[Series, Scope], steps: Span, shifts: Mapping[Series, int]
    ) -> dict[Series, BucketColumns]:
        if not shifts:
            return {}
        return merge_partials(await self._query_partials(series, steps, shifts), shifts)

    async def _query_partials(
        self, series: Mapping[Series, Scope], steps: Span, shifts: Mapping[Series, int]
    ) -> Partials:
        by_shift: dict[int, dict[Series, Scope]] = defaultdict(dict)
        for one, shift in shifts.items():
            by_shift[shift][one] = series[one]
        sources = [(shift, scoped) for shift, some in by_shift.items() for scoped in _by_run(some)]
        table = await self._store.query_arrow(scoped_partials_sql(sources, steps))
        return read_partials(table)


def _by_run(series: Mapping[Series, Scope]) -> list[Scoped]:
    """Returns the series as runs with their metrics, so many runs together as one query bears."""
    runs: dict[int, tuple[Scope, list[int]]] = {}
    for (run, metric), scope in series.items():
        runs.setdefault(run, (scope, []))[1].append(metric)
    items = list(runs.items())
    return [
        dict(items[start : start + RUNS_PER_QUERY_MAX])
        for start in range(0, len(items), RUNS_PER_QUERY_MAX)
    ]
