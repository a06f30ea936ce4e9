"""Counts the metric names of each run against the limit. Pure.

A run's names are counted from what this process has seen of it; once that comes near the limit, what the store knows
is added, so that runs of ordinary width cost no question to the store. A process that starts anew may therefore let a
run pass its limit by an eighth of it, and never by more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from runyard_server.domain.run import RunKey

_NEAR = 8


class MetricCensus:
    """Holds the metric ids of the runs seen last, at most `ids_max` ids of all runs together."""

    def __init__(self, *, metrics_per_run_max: int, ids_max: int) -> None:
        self._limit = metrics_per_run_max
        self._ids_max = ids_max
        self._runs: OrderedDict[RunKey, set[int]] = OrderedDict()
        self._loaded: set[RunKey] = set()
        self._count = 0
        self._evictions = 0

    def needs_load(self, run_key: RunKey, ids: Sequence[int]) -> bool:
        """Returns whether `load` must come before `admit` for these ids."""
        if run_key in self._loaded:
            return False
        seen = self._runs.get(run_key, set())
        return len(seen) + len(ids) > self._limit // _NEAR and not seen.issuperset(ids)

    def load(self, run_key: RunKey, ids: Iterable[int]) -> None:
        """Adds what the store knows of the run."""
        seen = self._touch(run_key)
        before = len(seen)
        seen.update(ids)
        self._count += len(seen) - before
        self._loaded.add(run_key)

    def admit(self, run_key: RunKey, ids: Sequence[int]) -> list[int]:
        """Returns the positions of ids that are new and beyond the limit; notes all others as the run's."""
        seen = self._touch(run_key)
        if seen.issuperset(ids):
            return []
        refused = []
        for position, metric in enumerate(ids):
            if metric in seen:
                continue
            if len(seen) >= self._limit:
                refused.append(position)
            else:
                seen.add(metric)
                self._count += 1
        self._evict(run_key)
        return refused

    def take_evictions(self) -> int:
        """Returns how many runs were forgotten because there were too many ids since the last call."""
        evictions, self._evictions = self._evictions, 0
        return evictions

    def _touch(self, run_key: RunKey) -> set[int]:
        seen = self._runs.setdefault(run_key, set())
        self._runs.move_to_end(run_key)
        return seen

    def _evict(self, keep: RunKey) -> None:
        while self._count > self._ids_max and len(self._runs) > 1:
            run_key = next(iter(self._runs))
            assert run_key != keep
            self._count -= len(self._runs.pop(run_key))
            self._loaded.discard(run_key)
            self._evictions += 1
