"""Promises of the store of what machines did; it is written as part of blocks, see PointWriter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.points import Float64Column, Int64Column, UInt64Column
from runyard_server.domain.run import RunKey


@dataclass(frozen=True, slots=True)
class SystemStats:
    """What is known of one system metric of a run; see query.v1.SystemMetricStats."""

    name: str
    writers: tuple[int, ...]
    first_time_unix_ms: int
    last_time_unix_ms: int
    last: float
    low: float
    high: float
    mean: float


@dataclass(frozen=True, slots=True)
class SystemSeries:
    """One system metric in buckets of 2^n ms, columns of one length, ascending; see query.v1.SystemSeries."""

    metric: str
    writer: int
    width_ms: int
    times_unix_ms: Int64Column
    lows: Float64Column
    highs: Float64Column
    means: Float64Column
    lasts: Float64Column
    counts: UInt64Column


@dataclass(frozen=True, slots=True)
class SystemSpan:
    """Which samples are wanted; None and () leave nothing out. Times are Unix ms, both included."""

    first_time_unix_ms: int | None = None
    last_time_unix_ms: int | None = None
    writers: tuple[int, ...] = ()


class SystemReader(Protocol):
    """Reads samples; each counts once, however often it was stored. Raises Unavailable."""

    async def list_metrics(self, run_key: RunKey, *, is_brief: bool = False) -> list[SystemStats]:
        """Returns the system metrics of the run, by name in byte order; briefly: its values are NaN."""
        ...

    async def read_extent(
        self, run_key: RunKey, metrics: Sequence[str], span: SystemSpan
    ) -> tuple[int, int] | None:
        """Returns the times of the first and the last sample, Unix ms; None if there is none."""
        ...

    async def read_series(
        self,
        run_key: RunKey,
        metrics: Sequence[str],
        span: SystemSpan,
        *,
        width_ms: int,
        is_by_writer: bool,
    ) -> list[SystemSeries]:
        """Returns series in buckets of that width, by metric and writer; those without samples are left out.

        The last value of a bucket is that of the latest sample; of one time, of the highest writer.
        """
        ...
