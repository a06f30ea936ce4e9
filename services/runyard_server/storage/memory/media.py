"""The reference of MediaReader, and of what PointWriter promises about media: a dictionary of values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from runyard_server.domain.media import MediaValue
from runyard_server.domain.points import Batch, UInt64Column, metric_ids
from runyard_server.domain.run import HistoryPart, RunKey
from runyard_server.storage.memory.history import counts
from runyard_server.storage.ports.media import (
    MediaKey,
    MediaStats,
    MediaSteps,
    StoredMedia,
    chosen_places,
)
from runyard_server.storage.ports.points import NO_SCOPES, Scopes

_Place = tuple[str, int, int]
"""(name, step, writer)."""
_Found = tuple[int, int, int, RunKey, MediaValue]
"""(step, minus the depth of the ancestor, writer, run, value)."""


class MemoryMedia:
    """Keeps values in memory, by run, name, step and writer."""

    def __init__(self) -> None:
        self._values: dict[RunKey, dict[_Place, MediaValue]] = {}

    def insert(self, batches: Iterable[Batch]) -> None:
        """Stores the values of one block."""
        for batch in batches:
            for value in batch.media_values:
                kept = self._values.setdefault(batch.run_key, {})
                place = (value.name, value.step, batch.writer)
                if place not in kept or kept[place].sequence <= value.sequence:
                    kept[place] = value

    def purge(self, run_keys: Sequence[RunKey]) -> None:
        """Removes the values of runs."""
        for run_key in run_keys:
            self._values.pop(run_key, None)

    def read_ids(self, run_key: RunKey, *, limit: int) -> UInt64Column:
        """Returns ids of names; see PointWriter.read_media_ids."""
        names = dict.fromkeys(name for name, _, _ in self._values.get(run_key, {}))
        return metric_ids(list(names)[:limit])

    async def list_media(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> list[MediaStats]:
        """Returns the names of the run; see MediaReader."""
        found: dict[str, list[_Found]] = {}
        for name, one in self._all(run_key, scopes):
            found.setdefault(name, []).append(one)
        stats = []
        for name in sorted(found, key=str.encode):
            values = sorted(found[name], key=lambda one: one[:3])
            steps = {one[0] for one in values}
            stats.append(MediaStats(name, values[-1][4].kind, min(steps), max(steps), len(steps)))
        return stats

    async def choose_steps(
        self,
        keys: Sequence[MediaKey],
        *,
        first_step: int | None,
        last_step: int | None,
        step_count_max: int,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[MediaKey, MediaSteps]:
        """Returns chosen steps; see MediaReader."""
        chosen = {}
        for run_key, name in keys:
            sizes: dict[int, int] = {}
            for step, _, _, _, value in self._of_name(run_key, name, scopes):
                is_wanted = (first_step is None or step >= first_step) and (
                    last_step is None or step <= last_step
                )
                if is_wanted:
                    sizes[step] = sizes.get(step, 0) + value.size_bytes
            if sizes:
                ordered = sorted(sizes)
                steps = [ordered[place] for place in chosen_places(len(ordered), step_count_max)]
                chosen[run_key, name] = MediaSteps(
                    tuple(steps), tuple(sizes[step] for step in steps), len(ordered)
                )
        return chosen

    async def read_values(
        self, steps: Mapping[MediaKey, Sequence[int]], *, scopes: Scopes = NO_SCOPES
    ) -> dict[MediaKey, list[StoredMedia]]:
        """Returns the values at these steps; see MediaReader."""
        found = {}
        for (run_key, name), wanted in steps.items():
            values = sorted(self._of_name(run_key, name, scopes), key=lambda one: one[:3])
            kept = [
                StoredMedia(owner, writer if owner == run_key else 0, value)
                for step, _, writer, owner, value in values
                if step in wanted
            ]
            if kept:
                found[run_key, name] = kept
        return found

    async def read_last_step(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> int | None:
        """Returns the largest step with a value; see MediaReader."""
        return max((one[0] for _, one in self._all(run_key, scopes)), default=None)

    def _of_name(self, run_key: RunKey, name: str, scopes: Scopes) -> Iterator[_Found]:
        return (one for found, one in self._all(run_key, scopes) if found == name)

    def _all(self, run_key: RunKey, scopes: Scopes) -> Iterator[tuple[str, _Found]]:
        """Yields name and value of all that counts."""
        scope = scopes.get(run_key)
        parts = (HistoryPart(run_key),) if scope is None else scope.parts
        writers = () if scope is None else scope.writers
        for depth, part in enumerate(parts[:1] if writers else parts):
            for (name, step, writer), value in self._values.get(part.run_key, {}).items():
                if counts(part, step, writer) and (not writers or writer in writers):
                    yield name, (step, -depth, writer, part.run_key, value)
