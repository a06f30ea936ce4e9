"""Reads of what machines did: checks what is asked and chooses the width of the buckets."""

from __future__ import annotations

from dataclasses import dataclass, field

from runyard_server.domain.errors import InvalidArgument
from runyard_server.query import planner
from runyard_server.query.runs import RunFinder
from runyard_server.storage.ports.system import SystemReader, SystemSeries, SystemSpan, SystemStats

BUCKETS_DEFAULT, BUCKETS_MAX = 500, 10_000


@dataclass(frozen=True, slots=True)
class SystemAsk:
    """Which system metrics are wanted; see query.v1.QuerySystemMetricsRequest."""

    run_path: str
    metrics: tuple[str, ...]
    span: SystemSpan = field(default_factory=SystemSpan)
    bucket_count_max: int = 0
    is_by_writer: bool = False


class SystemQueries:
    """Answers ListSystemMetrics and QuerySystemMetrics."""

    def __init__(self, reader: SystemReader, finder: RunFinder, *, keep_days: float) -> None:
        self.keep_days = keep_days
        """For how many days samples are kept; 0: for as long as their run."""
        self._reader = reader
        self._finder = finder

    async def list_metrics(self, run_path: str, *, is_brief: bool = False) -> list[SystemStats]:
        """Returns the system metrics of a run, by name; briefly: without values."""
        run = await self._finder.find(run_path)
        return await self._reader.list_metrics(run.run_key, is_brief=is_brief)

    async def read_series(self, ask: SystemAsk) -> list[SystemSeries]:
        """Returns system metrics over time: the smallest width that is a power of two and gives few enough buckets."""
        buckets = planner.clamp(ask.bucket_count_max, default=BUCKETS_DEFAULT, most=BUCKETS_MAX)
        buckets = max(buckets, planner.BUCKETS_MIN)
        # As for the run's own metrics: the same limits of names, of buckets a reply, of writers.
        planner.plan_buckets([ask.run_path], ask.metrics, planner.Steps(), buckets)
        planner.check_selection(planner.Selection(writers=ask.span.writers), run_count=1)
        _check_span(ask.span)
        run = await self._finder.find(ask.run_path)
        extent = await self._reader.read_extent(run.run_key, ask.metrics, ask.span)
        if extent is None:
            return []
        found = await self._reader.read_series(
            run.run_key,
            ask.metrics,
            ask.span,
            width_ms=width_of(*extent, count_max=buckets),
            is_by_writer=ask.is_by_writer,
        )
        order = {metric: place for place, metric in reversed(list(enumerate(ask.metrics)))}
        return sorted(found, key=lambda one: (order[one.metric], one.writer))


def width_of(first_ms: int, last_ms: int, *, count_max: int) -> int:
    """Returns the smallest power of two of which at most `count_max` aligned buckets hold all from first to last."""
    shift = 0
    while (last_ms >> shift) - (first_ms >> shift) + 1 > count_max:
        shift += 1
    return 1 << shift


def _check_span(span: SystemSpan) -> None:
    first, last = span.first_time_unix_ms, span.last_time_unix_ms
    if first is not None and last is not None and first > last:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"first_time_unix_ns is {first} ms, which is behind last_time_unix_ns, {last} ms",
            metadata={"field": "first_time_unix_ns", "value": first, "limit": last},
        )
