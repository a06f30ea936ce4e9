"""Promises of the store of points: blocks in, series out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.points import (
    Batch,
    Float64Column,
    Int64Column,
    Journal,
    UInt64Column,
)
from runyard_server.domain.purges import TablePurge
from runyard_server.domain.run import HistoryPart, RunKey


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Names one series."""

    run_key: RunKey
    metric: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Which points of a run are read: those of its history's parts, the run's own part first, and of some writers only.

    Without a scope all points of the run itself are read, and no others. Where a scope has several parts, points of
    ancestors come as of writer 0.
    """

    parts: tuple[HistoryPart, ...]
    writers: tuple[int, ...] = ()
    """Only these writers of the run itself; () is all. Ancestors are left out where it is not empty."""


Scopes = Mapping[RunKey, Scope]
"""The runs that are not read plainly."""

NO_SCOPES: Scopes = {}


@dataclass(frozen=True, slots=True)
class SeriesPoints:
    """Points of one series, columns of one length, ordered by (step, writer)."""

    steps: Int64Column
    times_unix_ns: Int64Column
    values: Float64Column
    writers: UInt64Column


@dataclass(frozen=True, slots=True)
class BucketColumns:
    """One downsampled series, columns of one length; see query.v1.BucketSeries."""

    width: int
    is_raw: bool
    first_steps: Int64Column
    last_steps: Int64Column
    times_unix_ns: Int64Column
    lows: Float64Column
    highs: Float64Column
    means: Float64Column
    lasts: Float64Column
    counts: UInt64Column
    nan_counts: UInt64Column
    positive_infinity_counts: UInt64Column
    negative_infinity_counts: UInt64Column


@dataclass(frozen=True, slots=True)
class MetricStats:
    """What is known of one series without reading its points; see query.v1.MetricStats."""

    name: str
    first_step: int
    last_step: int
    first: float
    last: float
    low: float
    high: float
    last_time_unix_ns: int


@dataclass(frozen=True, slots=True)
class SummaryEntry:
    """One key of a summary that the script set itself."""

    key: str
    value_json: str


@dataclass(frozen=True, slots=True)
class ReceiptRange:
    """One acknowledged batch of a writer: a closed range of sequences. Ranges may overlap."""

    writer: int
    first_sequence: int
    last_sequence: int
    points_accepted: int
    points_rejected: int


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """A batch in a block, and how many of its points validation refused."""

    batch: Batch
    points_rejected: int = 0


class RunPurger(Protocol):
    """Removes runs from a store for good."""

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Removes all rows of the runs and returns what that freed, table by table, once it is gone.

        Rows of other runs MUST NOT be touched. Safe to repeat, also after it was broken off anywhere: a repeat MUST tell at
        least what the first call found. Rows that come late are removed by the next call; they need not be counted.
        Raises Unavailable.
        """
        ...


class PointWriter(Protocol):
    """Stores blocks."""

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        """Stores all batches of the block, their metric names, summary changes, media values (see MediaReader), lines
        (see ConsoleReader), samples of machines (see SystemReader) and receipts.

        Batches of other journals than the run's have no receipt.

        When it returns, all MUST be durable (synced) and visible to PointReader. If it raises Unavailable, any part
        may be stored; the caller repeats the same block, or its batches in other blocks, and each point, receipt
        and change MUST still be read once. Of points with one (run, metric, step, writer) the one with the highest
        sequence MUST win, within a batch too. Values MUST come back bit by bit.
        """
        ...

    async def read_metric_ids(
        self, run_key: RunKey, *, limit: int, journal: Journal = Journal.RUN
    ) -> UInt64Column:
        """Returns the ids (domain.points.metric_id) of at most `limit` metrics of the run, each once, in any order.

        With Journal.SYSTEM those of its system metrics.
        """
        ...

    async def read_media_ids(self, run_key: RunKey, *, limit: int) -> UInt64Column:
        """Returns the ids (as of metrics) of at most `limit` names of media of the run, each once, in any order."""
        ...


class PointReader(Protocol):
    """Reads what PointWriter stored. Raises Unavailable if the store does not answer."""

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
        """Returns one SeriesPoints per metric, in that order, and where to continue.

        `limit` bounds the points of each series. If any is cut, all MUST be complete for all steps below the returned
        `next_step`, hold nothing from it on, and be not all empty; else `next_step` is None.
        """
        ...

    async def read_buckets(
        self,
        series: Sequence[SeriesKey],
        *,
        first_step: int | None,
        last_step: int | None,
        bucket_count_max: int,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[SeriesKey, BucketColumns]:
        """Returns downsampled series; those without points in the range are left out.

        A series with at most `bucket_count_max` points in the range comes raw, but as one bucket per step (width 1) if a step
        has points of several writers. Else the width is the smallest power of two
        that gives at most `bucket_count_max` buckets over the steps present; buckets are aligned to floor(step / width).
        Equal stored points MUST give equal buckets, whatever the order of arrival or of merges.
        """
        ...

    async def list_metrics(
        self,
        run_key: RunKey,
        *,
        name_contains: str,
        after_name: str,
        limit: int,
        scopes: Scopes = NO_SCOPES,
    ) -> tuple[list[MetricStats], int]:
        """Returns metrics by name in byte order, those after `after_name`, and how many match in all."""
        ...

    async def read_metric_stats(
        self,
        run_keys: Sequence[RunKey],
        *,
        metrics: Sequence[str] | None,
        limit_per_run: int | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[RunKey, list[MetricStats]]:
        """Returns the stats of the named metrics (None: all) of many runs at once, by name.

        Of each run only the first `limit_per_run`, where given. Runs without any are left out.
        """
        ...

    async def read_last_step(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> int | None:
        """Returns the largest step of any metric of the run, or None without points."""
        ...

    async def read_means(
        self, series: Sequence[SeriesKey], *, scopes: Scopes = NO_SCOPES
    ) -> dict[SeriesKey, float]:
        """Returns the mean of the finite values of each series; NaN if none is finite."""
        ...

    async def read_summaries(self, run_keys: Sequence[RunKey]) -> dict[RunKey, list[SummaryEntry]]:
        """Returns the summary entries that the scripts set themselves, by key; removed ones are left out."""
        ...

    async def read_receipts(self, run_key: RunKey) -> list[ReceiptRange]:
        """Returns the receipts of the run, each acknowledged range once, by (writer, first_sequence).

        Of a run with very many, ranges that adjoin and share records with no other may come joined, their points summed.
        """
        ...
