"""Reads what the machines of a run did: which metrics there are, and their values over time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
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
    mean: float
    unit: str
    """"%", "bytes", "MB" (2**20 bytes), "GB" (2**30 bytes), "bytes/s", "W", "J", "°C", "MHz"; "": a plain number."""
    section: str
    """What it is of: "cpu", "memory", "gpu", "process", "disk", "network", "endpoint"; "" if the server does not know it."""
    description: str


def list_system_metrics(
    connection: Connection, path: str, *, is_brief: bool = False
) -> list[SystemMetric]:
    """Returns the system metrics of a run, in the order in which they are shown; briefly: their values are NaN. Raises NotFound."""
    reply = connection.call(
        QUERY + "ListSystemMetrics",
        query_pb2.ListSystemMetricsRequest(run_path=path, is_brief=is_brief),
        query_pb2.ListSystemMetricsResponse,
    )
    return [_metric(one) for one in reply.metrics]


def of_writers(
    connection: Connection, path: str, metrics: Sequence[SystemMetric], writers: Sequence[int]
) -> list[SystemMetric]:
    """Returns those of the metrics that these writers' agents sampled, with times and values of those samples only."""
    found: dict[str, SystemMetric] = {}
    known = {one.name: one for one in metrics}
    for reply in _replies(connection, path, list(known), count_max=0, writers=writers):
        for series in reply.series:
            found[series.metric] = _restricted(known[series.metric], series, tuple(writers))
    return [found[one.name] for one in metrics if one.name in found]


def _metric(one: query_pb2.SystemMetricStats) -> SystemMetric:
    section = query_pb2.SystemSection.Name(one.section) if one.section else ""
    return SystemMetric(
        name=one.name,
        writers=tuple(one.writers),
        first_time_s=one.first_time_unix_ns / 1e9,
        last_time_s=one.last_time_unix_ns / 1e9,
        last=one.last,
        low=one.low,
        high=one.high,
        mean=one.mean,
        unit=one.unit,
        section=section.replace("SYSTEM_SECTION_", "").lower(),
        description=one.description,
    )


def _restricted(
    metric: SystemMetric, series: query_pb2.SystemSeries, writers: tuple[int, ...]
) -> SystemMetric:
    finite = [
        (mean, count) for mean, count in zip(series.means, series.counts) if math.isfinite(mean)
    ]
    total = sum(count for _, count in finite)
    return dataclasses.replace(
        metric,
        writers=tuple(writer for writer in metric.writers if writer in writers),
        first_time_s=series.times_unix_ns[0] / 1e9,
        last_time_s=series.times_unix_ns[-1] / 1e9,
        last=series.lasts[-1],
        low=min(filter(math.isfinite, series.lows), default=math.nan),
        high=max(filter(math.isfinite, series.highs), default=math.nan),
        mean=sum(mean * count for mean, count in finite) / total if total else math.nan,
    )


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
    for reply in _replies(connection, path, names, count_max=count_max, writers=writers):
        for series in reply.series:
            for time_unix_ns, value in zip(series.times_unix_ns, series.lasts):
                time_s = time_unix_ns / 1e9
                rows.setdefault(time_s, {"_timestamp": time_s})[series.metric] = value
    return [rows[time_s] for time_s in sorted(rows)]


def _replies(
    connection: Connection,
    path: str,
    names: Sequence[str],
    *,
    count_max: int,
    writers: Sequence[int],
) -> Iterator[query_pb2.QuerySystemMetricsResponse]:
    for start in range(0, len(names), METRICS_PER_CALL):
        request = query_pb2.QuerySystemMetricsRequest(
            run_path=path,
            metrics=names[start : start + METRICS_PER_CALL],
            bucket_count_max=min(count_max, BUCKET_COUNT_MAX),
            writers=writers,
        )
        yield connection.call(
            QUERY + "QuerySystemMetrics", request, query_pb2.QuerySystemMetricsResponse
        )
