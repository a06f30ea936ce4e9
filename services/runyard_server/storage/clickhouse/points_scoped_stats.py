"""Reads which metrics a run with a history of its own has, and what is known of each, within a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_columns import (
    column,
    read_stats,
    rows_of,
    texts,
)
from runyard_server.storage.clickhouse.points_read_plan import chunks
from runyard_server.storage.clickhouse.points_read_sql import SETTINGS
from runyard_server.storage.clickhouse.points_scoped_long import LongScopedReader
from runyard_server.storage.clickhouse.points_scoped_stats_sql import (
    first_values_sql,
    long_metrics_sql,
    names_sql,
    stats_sql,
    unsure_sql,
)
from runyard_server.storage.ports.points import BucketColumns, MetricStats, Scope

_METRICS_PER_QUERY_MAX: Final = 5_000
_FIRST_VALUES_PER_QUERY_MAX: Final = 32


class ScopedStatsReader:
    """Answers for runs of a scope what the catalogue of series answers for the others. Holds no state."""

    def __init__(self, store: ClickHouse, long: LongScopedReader) -> None:
        self._store = store
        self._long = long

    async def list_metrics(
        self,
        run: int,
        scope: Scope,
        *,
        metrics: Sequence[int] = (),
        name_contains: str = "",
        after_name: str = "",
        limit: int | None = None,
    ) -> tuple[list[MetricStats], int]:
        """Returns metrics that have points by name in byte order, and how many match in all; `metrics` () are all.

        Only the page's points are read: of a hundred thousand metrics, a thousand.
        """
        names, total = await self._names(
            run, scope, metrics, text=name_contains, after=after_name, limit=limit
        )
        is_all = not metrics and len(names) == total
        stats = await self._stats(run, scope, names, is_all=is_all)
        return [stats[metric] for metric in names if metric in stats], total

    async def _names(
        self,
        run: int,
        scope: Scope,
        metrics: Sequence[int],
        *,
        text: str,
        after: str,
        limit: int | None,
    ) -> tuple[dict[int, str], int]:
        """Returns a page of names by metric, in order, and how many there are in all."""
        table = await self._store.query_arrow(unsure_sql(run, scope, metrics))
        unsure: list[int] = column(table, "metric").tolist()
        parameters = {"text": text, "after": after}
        table = await self._store.query_arrow(
            names_sql(run, scope, metrics, unsure=unsure, limit=limit), parameters
        )
        if table.num_rows == 0:
            if not after:
                return {}, 0
            _, total = await self._names(run, scope, metrics, text=text, after="", limit=1)
            return {}, total
        found = zip(column(table, "metric").tolist(), texts(table, "metric_name"), strict=True)
        return dict(found), int(column(table, "total")[0])

    async def _stats(
        self, run: int, scope: Scope, names: Mapping[int, str], *, is_all: bool
    ) -> dict[int, MetricStats]:
        table = await self._store.query_arrow(long_metrics_sql(scope))
        stored = [metric for metric in column(table, "metric").tolist() if metric in names]
        whole = await self._long.read_whole(dict.fromkeys(((run, one) for one in stored), scope))
        long = {metric: buckets for (_, metric), buckets in whole.items()}
        found = await self._stats_of_long(run, scope, names, long)
        if is_all:
            queries = [stats_sql(run, scope, (), without=tuple(long))]
        else:
            short = [metric for metric in names if metric not in long]
            queries = [
                stats_sql(run, scope, chunk, without=())
                for chunk in chunks(short, _METRICS_PER_QUERY_MAX)
            ]
        for query in queries:
            table = await self._store.query_arrow(f"{query} {SETTINGS}")
            metrics = column(table, "metric").tolist()
            own_names = [names.get(metric, "") for metric in metrics]
            found.update(zip(metrics, read_stats(own_names, table), strict=True))
        return found

    async def _stats_of_long(
        self,
        run: int,
        scope: Scope,
        names: Mapping[int, str],
        long: Mapping[int, BucketColumns],
    ) -> dict[int, MetricStats]:
        """Returns the stats that one bucket of all points tells; only of the first value it says nothing."""
        first_steps = [(metric, int(one.first_steps[0])) for metric, one in long.items()]
        tables = await asyncio.gather(
            *(
                self._store.query_arrow(f"{first_values_sql(run, scope, chunk)} {SETTINGS}")
                for chunk in chunks(first_steps, _FIRST_VALUES_PER_QUERY_MAX)
            )
        )
        firsts = {metric: float(value) for table in tables for metric, value in rows_of(table)}
        return {
            metric: MetricStats(
                name=names[metric],
                first_step=int(one.first_steps[0]),
                last_step=int(one.last_steps[0]),
                first=firsts[metric],
                last=float(one.lasts[0]),
                low=float(one.lows[0]),
                high=float(one.highs[0]),
                last_time_unix_ns=int(one.times_unix_ns[0]),
            )
            for metric, one in long.items()
        }
