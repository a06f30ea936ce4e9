"""Turns messages of query.v1 about system metrics into the domain's words and back; columns stay columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.system_metrics import SystemMetricLabels, labels_of
from runyard_server.query.packed import pack_columns
from runyard_server.query.system import SystemAsk
from runyard_server.storage.ports.system import SystemSeries, SystemSpan, SystemStats

_NS_PER_MS: Final = 1_000_000
_FIELDS: Final = pb.SystemSeries.DESCRIPTOR.fields_by_name


def system_ask(request: pb.QuerySystemMetricsRequest) -> SystemAsk:
    """Returns what the message asks for."""
    first, last = request.first_time_unix_ns, request.last_time_unix_ns
    return SystemAsk(
        run_path=request.run_path,
        metrics=tuple(dict.fromkeys(request.metrics)),
        span=SystemSpan(
            first // _NS_PER_MS if request.HasField("first_time_unix_ns") else None,
            last // _NS_PER_MS if request.HasField("last_time_unix_ns") else None,
            tuple(dict.fromkeys(request.writers)),
        ),
        bucket_count_max=request.bucket_count_max,
        is_by_writer=request.is_by_writer,
    )


def system_stats(stats: Sequence[SystemStats], *, keep_days: float) -> pb.ListSystemMetricsResponse:
    """Returns the message that says it, in the order of the table of metrics."""
    found = sorted(
        ((labels_of(one.name), one) for one in stats),
        key=lambda pair: (pair[0].place, pair[1].name.encode()),
    )
    return pb.ListSystemMetricsResponse(
        metrics=[_stats(labels, one) for labels, one in found], keep_days=keep_days
    )


def _stats(labels: SystemMetricLabels, one: SystemStats) -> pb.SystemMetricStats:
    return pb.SystemMetricStats(
        name=one.name,
        writers=one.writers,
        first_time_unix_ns=one.first_time_unix_ms * _NS_PER_MS,
        last_time_unix_ns=one.last_time_unix_ms * _NS_PER_MS,
        last=one.last,
        low=one.low,
        high=one.high,
        mean=one.mean,
        unit=labels.unit,
        description=labels.description,
        section=pb.SystemSection.ValueType(labels.section),
        title=labels.title,
        item=labels.item,
        is_of_process=labels.is_of_process,
    )


def system_series(series: Sequence[SystemSeries]) -> pb.QuerySystemMetricsResponse:
    """Returns the message that says it."""
    return pb.QuerySystemMetricsResponse(series=[_series(one) for one in series])


def _series(one: SystemSeries) -> pb.SystemSeries:
    message = pb.SystemSeries(metric=one.metric, writer=one.writer, width_ms=one.width_ms)
    columns = (
        ("times_unix_ns", (one.times_unix_ms * _NS_PER_MS).astype("<i8", copy=False)),
        ("lows", one.lows.astype("<f8", copy=False)),
        ("highs", one.highs.astype("<f8", copy=False)),
        ("means", one.means.astype("<f8", copy=False)),
        ("lasts", one.lasts.astype("<f8", copy=False)),
        ("counts", one.counts.astype("<u8", copy=False)),
    )
    pack_columns(message, [(_FIELDS[name].number, column) for name, column in columns])
    return message
