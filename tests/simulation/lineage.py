"""What must be read of runs that were rewound and forked: a model of its own, which knows who came when and what was written.

The order in which metadata took the writers in is all that it asks of the server. A rewind takes from the writers before it
what lies after its step; a fork sees of its parent what counted when the fork came, up to its step.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from runyard_server.domain.run import RunKey
from runyard_server.metadata.starts import StartedRun
from runyard_server.query.planner import Selection, Steps
from runyard_server.storage.memory.run_store import MemoryRunStore
from runyard_server.storage.ports.run_store import RunTransaction
from tests.simulation.trainer import NAMES
from tests.simulation.written import Written

if TYPE_CHECKING:
    from tests.simulation.servers import Servers

T = TypeVar("T")
Point = tuple[str, int, int, bytes]
"""(metric, step, writer; 0: an ancestor's, bits)."""
POINTS_MAX = 60_000


@dataclass(frozen=True)
class Birth:
    """A writer as metadata took it in; `order` counts over all runs."""

    order: int
    run_key: RunKey
    path: str
    writer: int
    attempt: int


class NotingRunStore(MemoryRunStore):
    """The run store, which notes who was taken in, and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.births: dict[str, Birth] = {}

    async def transact(self, action: Callable[[RunTransaction], T]) -> T:
        result = await super().transact(action)
        if isinstance(result, StartedRun):
            run, one = result.run, result.writer
            birth = Birth(len(self.births), run.run_key, run.path, one.writer, one.attempt)
            self.births.setdefault(one.request_id, birth)
        return result


class Lineage:
    """All that was written by those who were taken in, run by run."""

    def __init__(self, servers: Servers, written: Sequence[Written]) -> None:
        self._servers = servers
        births = servers.runs.births
        self._known = sorted(
            (
                (births[one.request_id], one)
                for one in written
                if one.request_id in births
            ),
            key=lambda known: known[0].order,
        )  # fmt: skip

    def current(self, path: str) -> list[Point]:
        """Returns the current history of a run."""
        return sorted(self._history(path, before=len(self._known) + 1_000_000, last_step=None))

    def every_attempt(self, path: str) -> list[Point]:
        """Returns what all attempts of the run itself logged."""
        return sorted(
            point for birth, one in self._of(path) for point in self._points(birth, one)
        )  # fmt: skip

    def ancestors(self, path: str) -> list[Written]:
        """Returns those whose config a fork may have taken over."""
        found: list[Written] = []
        first = next(iter(self._of(path)), None)
        while first is not None and first[1].fork is not None:
            parent = first[1].fork[0]
            found += [one for _, one in self._of(parent)]
            first = next(iter(self._of(parent)), None)
        return found

    def _history(self, path: str, *, before: int, last_step: int | None) -> Iterator[Point]:
        """Yields what counts of a run in the eyes of one who comes at `before`."""
        known = [(birth, one) for birth, one in self._of(path) if birth.order < before]
        rewinds = self._rewinds(known)
        for birth, one in known:
            limits = [step for order, step in rewinds if birth.order < order]
            for point in self._points(birth, one):
                if all(point[1] <= limit for limit in (*limits, *_some(last_step))):
                    yield point
        first, fork = known[0][0], known[0][1].fork
        if fork is not None:
            limit = min((fork[1], *(step for _, step in rewinds), *_some(last_step)))
            for name, step, _, bits in self._history(fork[0], before=first.order, last_step=limit):
                yield name, step, 0, bits

    def _rewinds(self, known: Sequence[tuple[Birth, Written]]) -> list[tuple[int, int]]:
        """Returns (order, step) of the rewinds: attempts whose first writer asked for one."""
        firsts: dict[int, tuple[Birth, Written]] = {}
        for birth, one in known:
            firsts.setdefault(birth.attempt, (birth, one))
        return [
            (birth.order, one.rewind_to_step)
            for birth, one in firsts.values()
            if one.rewind_to_step is not None
        ]

    def _points(self, birth: Birth, one: Written) -> Iterator[Point]:
        durable = self._servers.durable.of(birth.run_key, birth.writer)
        for (name, step), bits in one.points(durable).items():
            yield name, step, birth.writer, bits

    def _of(self, path: str) -> list[tuple[Birth, Written]]:
        return [(birth, one) for birth, one in self._known if birth.path == path]


async def read(servers: Servers, path: str, *, is_all_attempts: bool) -> list[Point]:
    """Returns what query gives of a run."""
    reply = await servers.query.service.read_series(
        path, NAMES, Steps(), limit=POINTS_MAX, selection=Selection(is_all_attempts)
    )
    assert reply.next_step is None
    found: list[Point] = []
    for name, one in reply.series:
        columns = zip(one.steps.tolist(), one.writers.tolist(), one.values.tolist(), strict=True)
        found += [(name, step, writer, struct.pack("<d", value)) for step, writer, value in columns]
    return sorted(found)


def _some(step: int | None) -> tuple[int, ...]:
    return () if step is None else (step,)
