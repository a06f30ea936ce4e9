"""Reads what machines did from ClickHouse: the port SystemReader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.ports.system import SystemSeries, SystemSpan, SystemStats

# A sample lies in the partition of its time, so a repeat lies beside it.
_SETTINGS: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"
_WRITERS_MAX: Final = 1_000
_VALUES: Final = """argMax(value, time) AS last_value, countIf(isFinite(value)) AS finite_one,
    minIf(value, isFinite(value)) AS low_one, maxIf(value, isFinite(value)) AS high_one,
    sumIf(value, isFinite(value)) AS sum_one"""
_VALUES_OF_ALL: Final = """argMax(last_value, (last_one, writer)) AS last, sum(finite_one) AS finite,
    minIf(low_one, finite_one > 0) AS low, maxIf(high_one, finite_one > 0) AS high,
    sum(sum_one) / sum(finite_one) AS mean"""


class ClickHouseSystemReader:
    """The port SystemReader over ClickHouse. Holds no state."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def list_metrics(self, run_key: RunKey, *, is_brief: bool = False) -> list[SystemStats]:
        """Returns the system metrics of the run; see the port."""
        # Rows lie by metric and writer: these are summed up one after the other, then the few sums by metric.
        inner, outer, final = "", "", ""
        if not is_brief:
            inner, outer, final = f", {_VALUES}", f", {_VALUES_OF_ALL}", "FINAL"
        table = await self._store.query_arrow(
            f"""SELECT name, arraySlice(arraySort(groupArray(writer)), 1, {_WRITERS_MAX}) AS writers,
    min(first_one) AS first_time, max(last_one) AS last_time{outer}
FROM (SELECT toString(metric) AS name, writer, min(time) AS first_one, max(time) AS last_one{inner}
    FROM system_points {final} WHERE run = {int(run_key)} GROUP BY metric, writer)
GROUP BY name ORDER BY name {_SETTINGS}, optimize_aggregation_in_order = 1"""
        )
        return [_stats(row, is_brief=is_brief) for row in table.to_pylist()]

    async def read_extent(
        self, run_key: RunKey, metrics: Sequence[str], span: SystemSpan
    ) -> tuple[int, int] | None:
        """Returns the times of the first and the last sample; see the port."""
        table = await self._store.query_arrow(
            "SELECT min(time) AS first_time, max(time) AS last_time, count() AS n"
            f"\nFROM system_points WHERE {_where(run_key, span)}",
            {"metrics": list(metrics)},
        )
        if not table["n"][0].as_py():
            return None
        return table["first_time"][0].as_py(), table["last_time"][0].as_py()

    async def read_series(
        self,
        run_key: RunKey,
        metrics: Sequence[str],
        span: SystemSpan,
        *,
        width_ms: int,
        is_by_writer: bool,
    ) -> list[SystemSeries]:
        """Returns series in buckets; see the port."""
        shift = width_ms.bit_length() - 1
        assert width_ms == 1 << shift, width_ms
        owner = "writer" if is_by_writer else "toUInt32(0)"
        table = await self._store.query_arrow(
            f"""SELECT toString(metric) AS name, {owner} AS owner, bitShiftRight(time, {shift}) AS bucket,
    min(time) AS first_time, minIf(value, isFinite(value)) AS low, maxIf(value, isFinite(value)) AS high,
    avgIf(value, isFinite(value)) AS mean, argMax(value, (time, writer)) AS last, count() AS n,
    countIf(isFinite(value)) AS finite
FROM system_points FINAL WHERE {_where(run_key, span)}
GROUP BY metric, owner, bucket ORDER BY name, owner, bucket {_SETTINGS}""",
            {"metrics": list(metrics)},
        )
        return _series(table, width_ms)


def _stats(row: dict[str, Any], *, is_brief: bool) -> SystemStats:
    has_values = not is_brief and row["finite"] > 0
    return SystemStats(
        name=row["name"],
        writers=tuple(row["writers"]),
        first_time_unix_ms=row["first_time"],
        last_time_unix_ms=row["last_time"],
        last=np.nan if is_brief else row["last"],
        low=row["low"] if has_values else np.nan,
        high=row["high"] if has_values else np.nan,
        mean=row["mean"] if has_values else np.nan,
    )


def _where(run_key: RunKey, span: SystemSpan) -> str:
    conditions = [f"run = {int(run_key)}", "metric IN {metrics:Array(String)}"]
    if span.first_time_unix_ms is not None:
        conditions.append(f"time >= {int(span.first_time_unix_ms)}")
    if span.last_time_unix_ms is not None:
        conditions.append(f"time <= {int(span.last_time_unix_ms)}")
    if span.writers:
        conditions.append(f"writer IN ({', '.join(str(int(one)) for one in span.writers)})")
    return " AND ".join(conditions)


def _series(table: pa.Table, width_ms: int) -> list[SystemSeries]:
    """Returns the rows, which are in order, cut where metric or owner change."""
    if not table.num_rows:
        return []
    table = table.combine_chunks()
    names = table["name"].to_numpy(zero_copy_only=False).astype(str)
    owners = table["owner"].to_numpy()
    is_first = np.ones(len(names), np.bool_)
    is_first[1:] = (names[1:] != names[:-1]) | (owners[1:] != owners[:-1])
    starts = np.flatnonzero(is_first)
    columns: dict[str, Any] = {
        name: table[name].to_numpy() for name in ("first_time", "low", "high", "mean", "last", "n")
    }
    without = table["finite"].to_numpy() == 0
    for name in ("low", "high", "mean"):
        columns[name] = np.where(without, np.nan, columns[name])
    return [
        SystemSeries(
            metric=str(names[start]),
            writer=int(owners[start]),
            width_ms=width_ms,
            times_unix_ms=columns["first_time"][start:stop],
            lows=columns["low"][start:stop],
            highs=columns["high"][start:stop],
            means=columns["mean"][start:stop],
            lasts=columns["last"][start:stop],
            counts=columns["n"][start:stop],
        )
        for start, stop in zip(starts, [*starts[1:], len(names)], strict=True)
    ]
