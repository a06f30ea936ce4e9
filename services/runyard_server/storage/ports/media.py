"""Promises of the store of media values; it is written as part of blocks, see PointWriter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.media import MediaValue
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.points import NO_SCOPES, Scopes


@dataclass(frozen=True, slots=True)
class MediaStats:
    """What is known of one name without reading its values; see query.v1.MediaStats."""

    name: str
    kind: int
    first_step: int
    last_step: int
    step_count: int


@dataclass(frozen=True, slots=True)
class MediaSteps:
    """Steps of one name of one run that were chosen of all those with a value in a range."""

    steps: tuple[int, ...]
    sizes: tuple[int, ...]
    """About how many bytes the values of each step take."""
    step_count: int
    """How many there were to choose from."""


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """One value; `run_key` is the run into which it was logged, `writer` 0 where that is an ancestor."""

    run_key: RunKey
    writer: int
    value: MediaValue


MediaKey = tuple[RunKey, str]
"""A run, and a name of media."""


class MediaReader(Protocol):
    """Reads media values; each counts once, however often it was stored. Raises Unavailable.

    Of one (run, name, step, writer) the value with the highest sequence MUST be read. Scopes are those of points.
    """

    async def list_media(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> list[MediaStats]:
        """Returns all names of the run, in byte order; the kind is that of the value at the largest step."""
        ...

    async def choose_steps(
        self,
        keys: Sequence[MediaKey],
        *,
        first_step: int | None,
        last_step: int | None,
        step_count_max: int,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[MediaKey, MediaSteps]:
        """Returns the steps, ascending, of each key that has values in the range: all, or the places of `chosen_places`."""
        ...

    async def read_values(
        self, steps: Mapping[MediaKey, Sequence[int]], *, scopes: Scopes = NO_SCOPES
    ) -> dict[MediaKey, list[StoredMedia]]:
        """Returns the values at these steps, by (step, writer); at one step ancestors first, the oldest before the others."""
        ...

    async def read_last_step(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> int | None:
        """Returns the largest step with a value, or None without values."""
        ...


def chosen_places(count: int, count_max: int) -> list[int]:
    """Returns which of `count` steps in order are read where at most `count_max` may be: evenly, the first and the last among them.

    Of one step only it is the last.
    """
    if count <= count_max:
        return list(range(count))
    if count_max == 1:
        return [count - 1]
    return [place * (count - 1) // (count_max - 1) for place in range(count_max)]
