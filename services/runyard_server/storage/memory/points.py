"""The reference of PointWriter and PointReader: a dictionary of series, each a dictionary of points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from runyard_server.domain.points import Batch, PointTable, UInt64Column, metric_ids
from runyard_server.domain.purges import TablePurge
from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.buckets import make_buckets, mean_of_finite
from runyard_server.storage.ports.points import (
    BlockEntry,
    BucketColumns,
    MetricStats,
    ReceiptRange,
    SeriesKey,
    SeriesPoints,
    SummaryEntry,
)

_NS_PER_MS = 1_000_000
_TIME_UNIX_NS_MIN = -(2**63)


@dataclass(frozen=True, slots=True)
class _Point:
    """One stored point, without its place (step, writer)."""

    sequence: int
    time_unix_ns: int
    value: float


@dataclass(slots=True)
class _Series:
    points: dict[tuple[int, int], _Point] = field(default_factory=dict)
    """By (step, writer)."""
    low: float = math.inf
    high: float = -math.inf
    """Of all finite values ever stored, replaced ones too."""


class MemoryPoints:
    """Keeps points in memory. Each block is stored at once, whole."""

    def __init__(self) -> None:
        self._series: dict[SeriesKey, _Series] = {}
        self._summaries: dict[tuple[RunKey, str], tuple[tuple[int, int], str]] = {}
        self._receipts: dict[tuple[RunKey, int, int, int], ReceiptRange] = {}
        self._purged: dict[RunKey, int] = {}

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        """Stores the block; see PointWriter."""
        for entry in entries:
            self._insert(entry)

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Removes all of the runs; see RunPurger. Bytes are not known here."""
        removed = []
        for run_key in run_keys:
            series = [key for key in self._series if key.run_key == run_key]
            count = sum(len(self._series.pop(key).points) for key in series)
            self._purged[run_key] = max(count, self._purged.get(run_key, 0))
            removed.append(self._purged[run_key])
        gone = frozenset(run_keys)
        self._summaries = {k: v for k, v in self._summaries.items() if k[0] not in gone}
        self._receipts = {k: v for k, v in self._receipts.items() if k[0] not in gone}
        return [TablePurge("points", tuple(removed), 0)]

    async def read_metric_ids(self, run_key: RunKey, *, limit: int) -> UInt64Column:
        """Returns ids of the run's metrics; see PointWriter."""
        return metric_ids([key.metric for key in self._series if key.run_key == run_key][:limit])

    async def read_series(
        self,
        run_key: RunKey,
        metrics: Sequence[str],
        *,
        first_step: int | None,
        last_step: int | None,
        limit: int,
    ) -> tuple[list[SeriesPoints], int | None]:
        """Returns points in (step, writer) order, complete below `next_step`; see PointReader."""
        found = [
            self._columns(SeriesKey(run_key, metric), first_step, last_step) for metric in metrics
        ]
        cuts = [int(one.steps[limit]) for one in found if one.steps.size > limit]
        if not cuts:
            return found, None
        next_step = min(cuts)
        first_steps = [int(one.steps[0]) for one in found if one.steps.size]
        if min(first_steps) == next_step:
            # More writers than `limit` logged this step: a step is never torn, so it comes whole.
            if next_step == last_step:
                return found, None
            next_step += 1
        return [_below(one, next_step) for one in found], next_step

    async def read_buckets(
        self,
        series: Sequence[SeriesKey],
        *,
        first_step: int | None,
        last_step: int | None,
        bucket_count_max: int,
    ) -> dict[SeriesKey, BucketColumns]:
        """Returns downsampled series; see PointReader."""
        found = {key: self._columns(key, first_step, last_step) for key in series}
        return {
            key: make_buckets(points, bucket_count_max=bucket_count_max)
            for key, points in found.items()
            if points.steps.size
        }

    async def list_metrics(
        self, run_key: RunKey, *, name_contains: str, after_name: str, limit: int
    ) -> tuple[list[MetricStats], int]:
        """Returns metrics by name in byte order, and how many match in all."""
        matching = [
            stats
            for stats in self._stats(run_key, None)
            if name_contains.lower() in stats.name.lower()
        ]
        after = [one for one in matching if one.name.encode() > after_name.encode()]
        return after[:limit], len(matching)

    async def read_metric_stats(
        self,
        run_keys: Sequence[RunKey],
        *,
        metrics: Sequence[str] | None,
        limit_per_run: int | None = None,
    ) -> dict[RunKey, list[MetricStats]]:
        """Returns the stats of metrics of many runs at once, by name."""
        found = {run_key: self._stats(run_key, metrics) for run_key in run_keys}
        return {run_key: stats[:limit_per_run] for run_key, stats in found.items() if stats}

    async def read_last_step(self, run_key: RunKey) -> int | None:
        """Returns the largest step of any metric of the run, or None without points."""
        return max((stats.last_step for stats in self._stats(run_key, None)), default=None)

    async def read_means(self, series: Sequence[SeriesKey]) -> dict[SeriesKey, float]:
        """Returns the mean of the finite values of each series; NaN if none is finite."""
        return {key: mean_of_finite(self._columns(key, None, None).values) for key in series}

    async def read_summaries(self, run_keys: Sequence[RunKey]) -> dict[RunKey, list[SummaryEntry]]:
        """Returns the summary entries that the scripts set themselves, by key."""
        found: dict[RunKey, list[SummaryEntry]] = {}
        for (run_key, key), (_, value_json) in sorted(
            self._summaries.items(), key=lambda item: item[0][1].encode()
        ):
            if run_key in run_keys and value_json:
                found.setdefault(run_key, []).append(SummaryEntry(key, value_json))
        return found

    async def read_receipts(self, run_key: RunKey) -> list[ReceiptRange]:
        """Returns the receipts of the run, each range once, by (writer, first_sequence)."""
        return [self._receipts[key] for key in sorted(self._receipts) if key[0] == run_key]

    def _insert(self, entry: BlockEntry) -> None:
        batch = entry.batch
        for table in batch.tables:
            for metric, place, point in _points_of(batch, table):
                series = self._series.setdefault(SeriesKey(batch.run_key, metric), _Series())
                known = series.points.get(place)
                if known is None or known.sequence <= point.sequence:
                    series.points[place] = point
                if math.isfinite(point.value):
                    series.low = min(series.low, point.value + 0.0)
                    series.high = max(series.high, point.value + 0.0)
        for change in batch.summary_changes:
            version = (batch.writer, change.sequence)
            known_change = self._summaries.get((batch.run_key, change.key))
            if known_change is None or known_change[0] <= version:
                self._summaries[batch.run_key, change.key] = (version, change.value_json)
        receipt = ReceiptRange(
            writer=batch.writer,
            first_sequence=batch.first_sequence,
            last_sequence=batch.last_sequence,
            points_accepted=batch.point_count,
            points_rejected=entry.points_rejected,
        )
        key = (batch.run_key, batch.writer, batch.first_sequence, batch.last_sequence)
        self._receipts[key] = receipt

    def _columns(
        self, key: SeriesKey, first_step: int | None, last_step: int | None
    ) -> SeriesPoints:
        series = self._series.get(key)
        places = [
            (step, writer)
            for step, writer in sorted(series.points if series is not None else ())
            if (first_step is None or step >= first_step)
            and (last_step is None or step <= last_step)
        ]
        points = [series.points[place] for place in places] if series is not None else []
        return SeriesPoints(
            steps=np.array([step for step, _ in places], np.int64),
            times_unix_ns=np.array([point.time_unix_ns for point in points], np.int64),
            values=np.array([point.value for point in points], np.float64),
            writers=np.array([writer for _, writer in places], np.uint64),
        )

    def _stats(self, run_key: RunKey, metrics: Iterable[str] | None) -> list[MetricStats]:
        wanted = None if metrics is None else set(metrics)
        keys = [
            key
            for key in self._series
            if key.run_key == run_key and (wanted is None or key.metric in wanted)
        ]
        return [
            _stats_of(key.metric, self._series[key])
            for key in sorted(keys, key=lambda key: key.metric.encode())
        ]


def _points_of(batch: Batch, table: PointTable) -> Iterator[tuple[str, tuple[int, int], _Point]]:
    """Yields (metric, (step, writer), point)."""
    rows = table.steps.size
    for place, index in enumerate(table.metric_indexes):
        for row in range(rows):
            yield (
                batch.metric_names[index],
                (int(table.steps[row]), batch.writer),
                _Point(
                    int(table.sequences[row]),
                    _floor_to_ms(int(table.times_unix_ns[row])),
                    float(table.values[place * rows + row]),
                ),
            )


def _floor_to_ms(time_unix_ns: int) -> int:
    """Returns the time rounded down to a millisecond; up, where 64 bits hold none below."""
    floor = time_unix_ns // _NS_PER_MS * _NS_PER_MS
    return floor if floor >= _TIME_UNIX_NS_MIN else floor + _NS_PER_MS


def _stats_of(name: str, series: _Series) -> MetricStats:
    first, last = min(series.points), max(series.points)
    has_finite = series.low <= series.high
    return MetricStats(
        name=name,
        first_step=first[0],
        last_step=last[0],
        first=series.points[first].value,
        last=series.points[last].value,
        low=series.low if has_finite else math.nan,
        high=series.high if has_finite else math.nan,
        last_time_unix_ns=series.points[last].time_unix_ns,
    )


def _below(points: SeriesPoints, step: int) -> SeriesPoints:
    end = int(points.steps.searchsorted(step))
    return SeriesPoints(
        steps=points.steps[:end],
        times_unix_ns=points.times_unix_ns[:end],
        values=points.values[:end],
        writers=points.writers[:end],
    )
