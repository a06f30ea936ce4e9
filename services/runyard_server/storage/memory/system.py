"""The reference of SystemReader, and of what PointWriter promises about samples: a dictionary of samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from runyard_server.domain.points import Batch, Journal
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.system import SystemSeries, SystemSpan, SystemStats

_NS_PER_MS = 1_000_000
_Sample = tuple[int, int, float]
"""(time in Unix ms, writer, value)."""


class MemorySystem:
    """Keeps samples in memory, by run, metric, writer and time."""

    def __init__(self) -> None:
        self._samples: dict[RunKey, dict[tuple[str, int, int], tuple[int, float]]] = {}

    def insert(self, batches: Iterable[Batch]) -> None:
        """Stores the samples of one block."""
        for batch in batches:
            if batch.journal != Journal.SYSTEM:
                continue
            kept = self._samples.setdefault(batch.run_key, {})
            for table in batch.tables:
                values = table.values.reshape(len(table.metric_indexes), table.steps.size)
                for place, index in enumerate(table.metric_indexes):
                    for row in range(table.steps.size):
                        time_unix_ms = int(table.times_unix_ns[row]) // _NS_PER_MS
                        key = (batch.metric_names[index], batch.writer, time_unix_ms)
                        sequence = int(table.sequences[row])
                        if key not in kept or kept[key][0] <= sequence:
                            kept[key] = (sequence, float(values[place, row]))

    def purge(self, run_keys: Sequence[RunKey]) -> None:
        """Removes the samples of runs."""
        for run_key in run_keys:
            self._samples.pop(run_key, None)

    def names(self, run_key: RunKey) -> list[str]:
        """Returns the names of the run's system metrics, in byte order."""
        return sorted({name for name, _, _ in self._samples.get(run_key, {})}, key=str.encode)

    async def list_metrics(self, run_key: RunKey, *, is_brief: bool = False) -> list[SystemStats]:
        """Returns the system metrics of the run; see SystemReader."""
        found = []
        for name in self.names(run_key):
            samples = self._find(run_key, name, SystemSpan())
            finite = [value for _, _, value in samples if math.isfinite(value) and not is_brief]
            found.append(
                SystemStats(
                    name=name,
                    writers=tuple(sorted({writer for _, writer, _ in samples})),
                    first_time_unix_ms=samples[0][0],
                    last_time_unix_ms=samples[-1][0],
                    last=math.nan if is_brief else samples[-1][2],
                    low=min(finite, default=math.nan),
                    high=max(finite, default=math.nan),
                    mean=sum(finite) / len(finite) if finite else math.nan,
                )
            )
        return found

    async def read_extent(
        self, run_key: RunKey, metrics: Sequence[str], span: SystemSpan
    ) -> tuple[int, int] | None:
        """Returns the times of the first and the last sample; see SystemReader."""
        times = [time for name in metrics for time, _, _ in self._find(run_key, name, span)]
        return (min(times), max(times)) if times else None

    async def read_series(
        self,
        run_key: RunKey,
        metrics: Sequence[str],
        span: SystemSpan,
        *,
        width_ms: int,
        is_by_writer: bool,
    ) -> list[SystemSeries]:
        """Returns series in buckets; see SystemReader."""
        found = []
        for name in sorted(set(metrics), key=str.encode):
            owned: dict[int, list[_Sample]] = {}
            for sample in self._find(run_key, name, span):
                owned.setdefault(sample[1] if is_by_writer else 0, []).append(sample)
            found += [_series(name, owner, width_ms, owned[owner]) for owner in sorted(owned)]
        return found

    def _find(self, run_key: RunKey, name: str, span: SystemSpan) -> list[_Sample]:
        first, last = span.first_time_unix_ms, span.last_time_unix_ms
        return sorted(
            (time, writer, value)
            for (metric, writer, time), (_, value) in self._samples.get(run_key, {}).items()
            if metric == name
            and (first is None or time >= first)
            and (last is None or time <= last)
            and (not span.writers or writer in span.writers)
        )


def _series(name: str, owner: int, width_ms: int, samples: Sequence[_Sample]) -> SystemSeries:
    buckets: dict[int, list[_Sample]] = {}
    for sample in samples:
        buckets.setdefault(sample[0] // width_ms, []).append(sample)
    held = [buckets[number] for number in sorted(buckets)]
    finite = [[value for _, _, value in bucket if math.isfinite(value)] for bucket in held]
    return SystemSeries(
        metric=name,
        writer=owner,
        width_ms=width_ms,
        times_unix_ms=np.array([bucket[0][0] for bucket in held], np.int64),
        lows=np.array([min(values, default=math.nan) for values in finite]),
        highs=np.array([max(values, default=math.nan) for values in finite]),
        means=np.array([sum(v) / len(v) if v else math.nan for v in finite]),
        lasts=np.array([bucket[-1][2] for bucket in held]),
        counts=np.array([len(bucket) for bucket in held], np.uint64),
    )
