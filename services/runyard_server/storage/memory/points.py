"""The reference of PointWriter and PointReader: a dictionary of series, each a dictionary of points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from runyard_server.domain.points import Batch, Journal, PointTable, UInt64Column, metric_ids
from runyard_server.domain.purges import TablePurge
from runyard_server.domain.run import HistoryPart, RunKey
from runyard_server.storage.memory.buckets import make_buckets, mean_of_finite
from runyard_server.storage.memory.console import MemoryConsole
from runyard_server.storage.memory.history import counts
from runyard_server.storage.memory.media import MemoryMedia
from runyard_server.storage.memory.system import MemorySystem
from runyard_server.storage.ports.points import (
    NO_SCOPES,
    BlockEntry,
    BucketColumns,
    MetricStats,
    ReceiptRange,
    Scope,
    Scopes,
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
        self.console = MemoryConsole()
        self.system = MemorySystem()
        self.media = MemoryMedia()

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        """Stores the block; see PointWriter."""
        self.console.insert(entry.batch for entry in entries)
        self.system.insert(entry.batch for entry in entries)
        self.media.insert(entry.batch for entry in entries)
        for entry in entries:
            if entry.batch.journal == Journal.RUN:
                self._insert(entry)

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Removes all of the runs; see RunPurger. Bytes are not known here."""
        removed = []
        for run_key in run_keys:
            series = [key for key in self._series if key.run_key == run_key]
            count = sum(len(self._series.pop(key).points) for key in series)
            self._purged[run_key] = max(count, self._purged.get(run_key, 0))
            removed.append(self._purged[run_key])
        self.console.purge(run_keys)
        self.system.purge(run_keys)
        self.media.purge(run_keys)
        gone = frozenset(run_keys)
        self._summaries = {k: v for k, v in self._summaries.items() if k[0] not in gone}
        self._receipts = {k: v for k, v in self._receipts.items() if k[0] not in gone}
        return [TablePurge("points", tuple(removed), 0)]

    async def read_metric_ids(
        self, run_key: RunKey, *, limit: int, journal: Journal = Journal.RUN
    ) -> UInt64Column:
        """Returns ids of the run's metrics; see PointWriter."""
        if journal == Journal.SYSTEM:
            return metric_ids(self.system.names(run_key)[:limit])
        return metric_ids([key.metric for key in self._series if key.run_key == run_key][:limit])

    async def read_media_ids(self, run_key: RunKey, *, limit: int) -> UInt64Column:
        """Returns ids of the run's names of media; see PointWriter."""
        return self.media.read_ids(run_key, limit=limit)

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
        """Returns points in (step, writer) order, complete below `next_step`; see PointReader."""
        found = [
            self._columns(SeriesKey(run_key, metric), first_step, last_step, scopes)
            for metric in metrics
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
        scopes: Scopes = NO_SCOPES,
    ) -> dict[SeriesKey, BucketColumns]:
        """Returns downsampled series; see PointReader."""
        found = {key: self._columns(key, first_step, last_step, scopes) for key in series}
        return {
            key: make_buckets(points, bucket_count_max=bucket_count_max)
            for key, points in found.items()
            if points.steps.size
        }

    async def list_metrics(
        self,
        run_key: RunKey,
        *,
        name_contains: str,
        after_name: str,
        limit: int,
        scopes: Scopes = NO_SCOPES,
    ) -> tuple[list[MetricStats], int]:
        """Returns metrics by name in byte order, and how many match in all."""
        matching = [
            stats
            for stats in self._stats(run_key, None, scopes)
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
        scopes: Scopes = NO_SCOPES,
    ) -> dict[RunKey, list[MetricStats]]:
        """Returns the stats of metrics of many runs at once, by name."""
        found = {run_key: self._stats(run_key, metrics, scopes) for run_key in run_keys}
        return {run_key: stats[:limit_per_run] for run_key, stats in found.items() if stats}

    async def read_last_step(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> int | None:
        """Returns the largest step of any metric of the run, or None without points."""
        return max((stats.last_step for stats in self._stats(run_key, None, scopes)), default=None)

    async def read_means(
        self, series: Sequence[SeriesKey], *, scopes: Scopes = NO_SCOPES
    ) -> dict[SeriesKey, float]:
        """Returns the mean of the finite values of each series; NaN if none is finite."""
        return {
            key: mean_of_finite(self._columns(key, None, None, scopes).values) for key in series
        }

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
        self, key: SeriesKey, first_step: int | None, last_step: int | None, scopes: Scopes
    ) -> SeriesPoints:
        found = [
            (step, writer, point)
            for step, writer, point in self._points(key, scopes.get(key.run_key))
            if (first_step is None or step >= first_step)
            and (last_step is None or step <= last_step)
        ]
        return SeriesPoints(
            steps=np.array([step for step, _, _ in found], np.int64),
            times_unix_ns=np.array([point.time_unix_ns for _, _, point in found], np.int64),
            values=np.array([point.value for _, _, point in found], np.float64),
            writers=np.array([writer for _, writer, _ in found], np.uint64),
        )

    def _points(self, key: SeriesKey, scope: Scope | None) -> list[tuple[int, int, _Point]]:
        """Returns (step, writer, point) of what counts, by step; at one step ancestors first, the oldest before the others."""
        parts = (HistoryPart(key.run_key),) if scope is None else scope.parts
        writers = () if scope is None else scope.writers
        found = []
        for depth, part in enumerate(parts[:1] if writers else parts):
            series = self._series.get(SeriesKey(part.run_key, key.metric), _Series())
            for (step, writer), point in series.points.items():
                if counts(part, step, writer) and (not writers or writer in writers):
                    found.append((step, -depth, writer, point))
        found.sort(key=lambda entry: entry[:3])
        return [(step, writer if depth == 0 else 0, point) for step, depth, writer, point in found]

    def _stats(
        self, run_key: RunKey, metrics: Iterable[str] | None, scopes: Scopes
    ) -> list[MetricStats]:
        wanted = None if metrics is None else set(metrics)
        scope = scopes.get(run_key)
        runs = {run_key} if scope is None else {part.run_key for part in scope.parts}
        names = {
            key.metric
            for key in self._series
            if key.run_key in runs and (wanted is None or key.metric in wanted)
        }
        found = []
        for name in sorted(names, key=str.encode):
            key = SeriesKey(run_key, name)
            points = self._points(key, scope)
            if scope is None:
                series = self._series[key]
                found.append(_stats_of(name, points, (series.low, series.high)))
            elif points:
                found.append(_stats_of(name, points, _range_of(points)))
        return found


def _range_of(points: Sequence[tuple[int, int, _Point]]) -> tuple[float, float]:
    finite = [point.value + 0.0 for _, _, point in points if math.isfinite(point.value)]
    return min(finite, default=math.inf), max(finite, default=-math.inf)


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


def _stats_of(
    name: str, points: Sequence[tuple[int, int, _Point]], bounds: tuple[float, float]
) -> MetricStats:
    (first_step, _, first), (last_step, _, last) = points[0], points[-1]
    low, high = bounds
    has_finite = low <= high
    return MetricStats(
        name=name,
        first_step=first_step,
        last_step=last_step,
        first=first.value,
        last=last.value,
        low=low if has_finite else math.nan,
        high=high if has_finite else math.nan,
        last_time_unix_ns=last.time_unix_ns,
    )


def _below(points: SeriesPoints, step: int) -> SeriesPoints:
    end = int(points.steps.searchsorted(step))
    return SeriesPoints(
        steps=points.steps[:end],
        times_unix_ns=points.times_unix_ns[:end],
        values=points.values[:end],
        writers=points.writers[:end],
    )
