"""Passes beats on to the replicas that own their runs, many agents' beats in one message, and keeps what nobody took.

```
  beat of another's run ──► note, one per (run, writer), on the line of its owner ──► Heartbeat(is_forwarded) ──► taken: dropped
                                   ▲                                                        │
                                   └── laid aside, routed anew at the next list ◄── refused ┘   no answer: kept, tried each second
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from prometheus_client import Counter, Gauge

from runyard_server.domain.beats import Beat, HeartbeatAnswer, MonitorReplica
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey
from runyard_server.monitor.ports import Peers
from runyard_server.monitor.replicas import Roster

BEATS_PER_CALL: Final = 10_000
PASSED_ON = Counter(
    "runyard_monitor_beats_passed_on_total",
    "Beats for other replicas, by what became of them.",
    ["result"],
)
NOTES = Gauge(
    "runyard_monitor_notes", "Beats kept until the replica that owns their runs takes them."
)

Key = tuple[RunKey, int]


@dataclass(frozen=True, slots=True)
class PassedOn:
    """What owners answered."""

    unknown_run_keys: tuple[RunKey, ...] = ()
    next_beat_s: float | None = None
    """The shortest pause that one of them wants; None if not all was taken."""


class Passing:
    """A line to each other replica, and what is laid aside."""

    def __init__(
        self,
        roster: Roster,
        *,
        peers: Peers,
        clock: Clock,
        gather_s: float,
        call_timeout_s: float,
        note_count_max: int,
    ) -> None:
        self._roster = roster
        self._peers = peers
        self._clock = clock
        self._gather_s = gather_s
        self._call_timeout_s = call_timeout_s
        self._note_count_max = note_count_max
        self._lines: dict[str, _Line] = {}
        self._aside: dict[Key, Beat] = {}

    @property
    def is_all_routed(self) -> bool:
        """Whether every note is on the line of its owner, by a list that is fresh."""
        return not self._aside and self._roster.is_fresh(self._clock.monotonic_s())

    async def pass_on(
        self, beats: Sequence[Beat], peers: Sequence[MonitorReplica], *, wait_s: float
    ) -> PassedOn:
        """Passes on beats, the n-th to the n-th of `peers`; returns what was answered within `wait_s`. Loses none.

        Their `age_s` is the moment at which they were heard, on the monotonic clock, and `agent_id` is set.
        """
        self.keep(beats, peers)
        waits = [self._line(peer).sent() for peer in dict.fromkeys(peers)]
        try:
            async with asyncio.timeout(wait_s):
                answers = [await asyncio.shield(wait) for wait in waits]
        except TimeoutError:
            return PassedOn()
        run_keys = {beat.run_key for beat in beats}
        found = [answer for answer in answers if answer is not None]
        is_whole = len(found) == len(answers) and not any(
            key in run_keys for answer in found for key in answer.refused_run_keys
        )
        return PassedOn(
            tuple(key for answer in found for key in answer.unknown_run_keys if key in run_keys),
            min((answer.next_beat_s for answer in found), default=None) if is_whole else None,
        )

    @property
    def note_count(self) -> int:
        """How many beats wait."""
        return len(self._aside) + sum(len(line.notes) for line in self._lines.values())

    async def flush(self) -> None:
        """Sends each other replica what waits for it, or that nothing does."""
        lines = [self._line(peer) for peer in self._roster.peers]
        await asyncio.gather(*(asyncio.shield(line.sent()) for line in lines))
        NOTES.set(self.note_count)

    def begin_flush(self) -> None:
        """Does so without waiting: a replica that does not answer holds up no other."""
        for peer in self._roster.peers:
            self._line(peer).sent()

    def keep(self, beats: Sequence[Beat], peers: Sequence[MonitorReplica]) -> None:
        """Has beats go with the next sending to their owners; see `pass_on`."""
        for peer in dict.fromkeys(peers):
            own = [beat for beat, owner in zip(beats, peers, strict=True) if owner is peer]
            self._line(peer).add(own, room=self._note_count_max)
        NOTES.set(self.note_count)

    def lay_aside(self, beats: Sequence[Beat]) -> None:
        """Keeps beats until they are routed; see `pass_on`."""
        for beat in beats:
            self._aside[(beat.run_key, beat.writer)] = beat

    def take_unrouted(self) -> list[Beat]:
        """Returns, and forgets, the notes that no line leads anywhere for: refused ones, and those for replicas that went."""
        found = list(self._aside.values())
        self._aside.clear()
        living = {peer.replica_id for peer in self._roster.peers}
        for replica_id in [known for known in self._lines if known not in living]:
            found.extend(self._lines.pop(replica_id).notes.values())
        return found

    async def close(self) -> None:
        """Waits for what is being sent."""
        for line in self._lines.values():
            await line.settle()

    def _line(self, peer: MonitorReplica) -> _Line:
        line = self._lines.get(peer.replica_id)
        if line is None:
            line = self._lines[peer.replica_id] = _Line(peer, self._send, self._gather_s)
        return line

    async def _send(self, line: _Line) -> HeartbeatAnswer | None:
        """Sends all that waits on a line; returns what was answered, or None if something was not."""
        unknown: list[RunKey] = []
        refused: list[RunKey] = []
        next_beat_s = float("inf")
        while True:
            taken = list(islice(line.notes.items(), BEATS_PER_CALL))
            has_more = len(taken) < len(line.notes) or not self.is_all_routed
            now_s = self._clock.monotonic_s()
            beats = [beat._replace(age_s=max(0.0, now_s - beat.age_s)) for _, beat in taken]
            try:
                answer = await self._peers.pass_on(
                    line.peer,
                    replica_id=self._roster.replica_id,
                    beats=beats,
                    has_more=has_more,
                    timeout_s=self._call_timeout_s,
                )
            except DomainError:
                PASSED_ON.labels("failed").inc(len(taken))
                return None
            self._settle(line, taken, set(answer.refused_run_keys))
            unknown.extend(answer.unknown_run_keys)
            refused.extend(answer.refused_run_keys)
            next_beat_s = min(next_beat_s, answer.next_beat_s)
            if len(taken) < BEATS_PER_CALL:
                return HeartbeatAnswer(next_beat_s, tuple(unknown), refused_run_keys=tuple(refused))

    def _settle(self, line: _Line, taken: list[tuple[Key, Beat]], refused: set[RunKey]) -> None:
        for key, beat in taken:
            if line.notes.get(key) is not beat:
                continue  # a later beat took its place, and waits
            del line.notes[key]
            if beat.run_key in refused:
                self._aside[key] = beat
        PASSED_ON.labels("taken").inc(len(taken) - len(refused))
        if refused:
            PASSED_ON.labels("refused").inc(len(refused))


class _Line:
    """What waits for one replica, and the sending of it: one call at a time."""

    def __init__(
        self,
        peer: MonitorReplica,
        send: Callable[[_Line], Awaitable[HeartbeatAnswer | None]],
        gather_s: float,
    ) -> None:
        self.peer = peer
        self.notes: dict[Key, Beat] = {}
        self._send = send
        self._gather_s = gather_s
        self._running: asyncio.Task[HeartbeatAnswer | None] | None = None
        self._gathering: asyncio.Task[HeartbeatAnswer | None] | None = None

    def add(self, beats: Sequence[Beat], *, room: int) -> None:
        """Adds notes; the oldest make room."""
        for beat in beats:
            key = (beat.run_key, beat.writer)
            self.notes.pop(key, None)
            self.notes[key] = beat
        while len(self.notes) > room:
            del self.notes[next(iter(self.notes))]
            PASSED_ON.labels("dropped").inc()

    def sent(self) -> asyncio.Task[HeartbeatAnswer | None]:
        """Returns the sending that takes all that is noted by now; what comes until it begins goes with it."""
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._gather_and_send())
        return self._gathering

    async def settle(self) -> None:
        """Waits until nothing is being sent."""
        for task in (self._running, self._gathering):
            if task is not None:
                await asyncio.wait([task])

    async def _gather_and_send(self) -> HeartbeatAnswer | None:
        before = self._running
        await asyncio.sleep(self._gather_s)
        if before is not None:
            await asyncio.wait([before])
        self._running, self._gathering = self._gathering, None
        return await self._send(self)
