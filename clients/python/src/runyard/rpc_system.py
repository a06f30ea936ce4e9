"""Reads what the machines of a run did: which metrics there are, and their values over time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from runyard.rpc import QUERY, Connection
from runyard_protos.query.v1 import query_pb2

METRICS_PER_CALL = 50
BUCKET_COUNT_MAX = 10_000


@dataclasses.dataclass(frozen=True)
class SystemMetric:
    """One system metric of a run; times are Unix seconds."""

    name: str
    writers: tuple[int, ...]
    first_time_s: float
    last_time_s: float
    last: float
    low: float
    high: float


def list_system_metrics(connection: Connection, path: str) -> list[SystemMetric]:
    """Returns the system metrics of a run, by name; raises NotFound."""
    reply = connection.call(
        QUERY + "ListSystemMetrics",
        query_pb2.ListSystemMetricsRequest(run_path=path),
        query_pb2.ListSystemMetricsResponse,
    )
    return [
        SystemMetric(
            name=one.name,
            writers=tuple(one.writers),
            first_time_s=one.first_time_unix_ns / 1e9,
            last_time_s=one.last_time_unix_ns / 1e9,
            last=one.last,
            low=one.low,
            high=one.high,
        )
        for one in reply.metrics
    ]


def system_rows(
    connection: Connection,
    path: str,
    names: Sequence[str],
    *,
    count_max: int,
    writers: Sequence[int],
) -> list[dict[str, Any]]:
    """Returns rows by time: `_timestamp`, and of each metric that has a sample in that moment its last value there."""
    rows: dict[float, dict[str, Any]] = {}
    for start in range(0, len(names), METRICS_PER_CALL):
        request = query_pb2.QuerySystemMetricsRequest(
            run_path=path,
            metrics=names[start : start + METRICS_PER_CALL],
            bucket_count_max=min(count_max, BUCKET_COUNT_MAX),
            writers=writers,
        )
        reply = connection.call(
            QUERY + "QuerySystemMetrics", request, query_pb2.QuerySystemMetricsResponse
        )
        for series in reply.series:
            for time_unix_ns, value in zip(series.times_unix_ns, series.lasts):
                time_s = time_unix_ns / 1e9
                rows.setdefault(time_s, {"_timestamp": time_s})[series.metric] = value
    return [rows[time_s] for time_s in sorted(rows)]
