"""The world of the monitor: replicas over one metadata, agents that beat, and every fault between them; asks I6.

A run is heard when a beat of its agent was answered. A verdict is false if such a beat was sent within the timeout before it,
less a margin for what was on its way. A dead run is one whose agent never speaks again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_server.domain.beats import Beat, HeartbeatAnswer, Liveness, MonitorReplica, RunWriters
from runyard_server.domain.errors import DomainError, Unavailable
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.run import (
    LiveRun,
    RunDocument,
    RunKey,
    RunState,
    StopStatus,
    TransitionCause,
)
from runyard_server.metadata.requests import RecordEvent, RecordTransition, StartRun
from runyard_server.metadata.service import MetadataConfig, MetadataService
from runyard_server.monitor.config import MonitorConfig
from runyard_server.monitor.service import MonitorService
from runyard_server.rpc import life_messages, monitor_messages
from runyard_server.storage.memory.run_store import MemoryRunStore
from runyard_server.storage.memory.runs import MemoryRunIndex
from tests.simulation.world import Chance, Dead, Node, WorldClock, check_caller

T = TypeVar("T")
CALL_TIMEOUT_S = 2.0
METADATA = "metadata"
MARGIN_S = 9.0
"""Beats sent so shortly before a verdict may be on their way: the time for which a replica trusts silence without an all clear,
that of the call that passes a beat on, and that of the call that records the verdict."""
LATE_COPY_S = 3.0


@dataclass
class Faults:
    """How often what goes wrong; all zero once the world heals."""

    request_lost: float = 0.0
    reply_lost: float = 0.0
    sent_twice: float = 0.0
    delay_mean_s: float = 0.01
    cuts: set[frozenset[str]] = field(default_factory=set)
    """Pairs of names that do not reach each other."""

    def heal(self) -> None:
        """Takes all faults away."""
        self.__dict__.update(Faults().__dict__)


class MonitorNode(Node):
    """One process of the monitor, the production service with its background work."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name)
        self.clock = WorldClock(world.chance)
        self.service = MonitorService(
            world.config,
            siblings=WayToMetadata(name, world),
            peers=WayToPeers(name, world),
            clock=self.clock,
            address=name,
        )

    def start(self) -> None:
        """Starts to watch."""
        self.spawn(self.service.run())


class World:
    """Replicas, metadata, the network between them, and what was seen."""

    def __init__(self, chance: Chance, config: MonitorConfig, *, replica_count: int) -> None:
        self.chance = chance
        self.config = config
        self.faults = Faults()
        self.clock = WorldClock(chance)
        self.metadata = MetadataService(
            MetadataConfig(), runs=MemoryRunStore(), index=MemoryRunIndex(), clock=self.clock
        )
        self.is_metadata_away = False
        self.timeouts_s: dict[RunKey, float] = {}
        self.stall_flags: dict[RunKey, list[tuple[float, RunEventKind]]] = {}
        """When runs were flagged as stalled, and when no longer."""
        self.heard_s: dict[RunKey, list[float]] = {}
        """When the beats were sent that were answered."""
        self.lost_writers: dict[RunKey, list[int]] = {}
        self.crashes: dict[RunKey, list[float]] = {}
        self.problems: list[str] = []
        self.trace: list[str] = []
        self._numbers = itertools.count(1)
        self.nodes = [MonitorNode(f"monitor{n}:1", self) for n in range(replica_count)]

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def note(self, event: str) -> None:
        """Writes down what happened when: the trace that a seed gives."""
        self.trace.append(f"{self.now_s:.6f} {event}")

    def restart(self, place: int) -> None:
        """Kills a replica and starts another at its address, which remembers nothing."""
        name = self.nodes[place].name
        self.nodes[place].kill()
        self.nodes[place] = MonitorNode(name, self)
        self.nodes[place].start()

    async def start_run(self, *, timeout_s: float | None) -> RunKey:
        """Returns a new run."""
        number = next(self._numbers)
        run_id = f"r{len(self.heard_s) + 1}"
        ask = StartRun(request_id=f"{number:032x}", run_id=run_id, project="p")
        started = await self.metadata.start_run(ask)
        run_key = started.run.run_key
        self.note(
            f"{run_key} starts, its timeout is {timeout_s or self.config.crash_timeout_s:g} s"
        )
        self.crashes[run_key] = []
        self.heard_s[run_key] = [self.now_s]
        self.timeouts_s[run_key] = timeout_s or self.config.crash_timeout_s
        return run_key

    def path_of(self, run_key: RunKey) -> str:
        """Returns the path of a run that this world started."""
        return f"local/p/r{list(self.heard_s).index(run_key) + 1}"

    async def add_writer(self, run_key: RunKey) -> int:
        """Returns the number of a further writer of a run."""
        number = next(self._numbers)
        run_id = self.path_of(run_key).rpartition("/")[2]
        ask = StartRun(
            request_id=f"{number:032x}", run_id=run_id, project="p", writer_label=f"rank{number}"
        )
        return (await self.metadata.start_run(ask)).writer.writer

    async def is_stalled(self, run_key: RunKey) -> bool:
        """Returns whether metadata has the run flagged as stalled."""
        document = await self.metadata.get_run(path=None, run_key=run_key)
        return document.stalled_since_unix_ns is not None

    async def state(self, run_key: RunKey) -> RunState:
        """Returns the run's state as metadata has it."""
        return (await self.metadata.get_run(path=None, run_key=run_key)).state

    def take_verdict(self, run_key: RunKey, by: str) -> None:
        """Asks I6 of a verdict that metadata took."""
        self.note(f"{by} calls {run_key} crashed")
        self.crashes[run_key].append(self.now_s)
        before_s = [self.now_s - sent_s for sent_s in self.heard_s[run_key]]
        wrong_s = [s for s in before_s if MARGIN_S < s < self.timeouts_s[run_key]]
        if wrong_s:
            self.problems.append(
                f"I6: {by} called {run_key} crashed at {self.now_s:.3f} s, beats that were answered had been sent "
                f"{', '.join(f'{s:.3f}' for s in wrong_s)} s before; the timeout is {self.timeouts_s[run_key]:g} s"
            )

    async def call(self, source: str, target: str, make: Callable[[], Awaitable[T]]) -> T:
        """Returns what `make` gives at the target, through a network that cuts, loses, delays and repeats."""
        faults, chance = self.faults, self.chance
        check_caller()
        await asyncio.sleep(chance.delay_s(faults.delay_mean_s))
        check_caller()
        if chance.hits(faults.request_lost) or frozenset((source, target)) in faults.cuts:
            await self._be_silent()
        if chance.hits(faults.sent_twice):
            late_s = chance.random.uniform(0.0, LATE_COPY_S)
            self._spawn(target, _after(late_s, make))
        work = self._spawn(target, _as_coroutine(make))
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                result: T = await asyncio.shield(work)
        except TimeoutError:
            check_caller()
            raise _no_answer("no answer in time") from None
        except DomainError:
            check_caller()
            raise
        except BaseException:
            check_caller()
            if not work.done():
                raise  # it is the caller that was stopped
            raise _no_answer("connection reset") from None
        if chance.hits(faults.reply_lost) or frozenset((source, target)) in faults.cuts:
            await self._be_silent()
        await asyncio.sleep(chance.delay_s(faults.delay_mean_s))
        check_caller()
        return result

    def _spawn(self, target: str, work: Any) -> asyncio.Task[Any]:
        if target == METADATA:
            if self.is_metadata_away:
                work.close()
                raise _no_answer("connection refused")
            task = asyncio.create_task(work)
        else:
            node = next(node for node in self.nodes if node.name == target)
            if not node.is_alive:
                work.close()
                raise _no_answer("connection refused")
            task = node.spawn(work)
        task.add_done_callback(_retrieve)
        return task

    async def _be_silent(self) -> None:
        await asyncio.sleep(CALL_TIMEOUT_S)
        check_caller()
        raise _no_answer("no answer in time")


class WayToMetadata:
    """Metadata as one replica reaches it: monitor.ports.RunDirectory."""

    def __init__(self, name: str, world: World) -> None:
        self._name = name
        self._world = world

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        return await self._ask(lambda: self._world.metadata.get_run(path=path, run_key=run_key))

    async def record_transition(
        self,
        run_key: RunKey,
        *,
        from_state: RunState,
        to_state: RunState,
        cause: TransitionCause,
        evidence: str,
        actor: str,
        attempt_count: int,
        end_time_unix_ns: int | None,
    ) -> tuple[bool, RunState]:
        ask = RecordTransition(
            run_key, from_state, to_state, cause, evidence, actor, attempt_count, end_time_unix_ns
        )

        async def record() -> tuple[bool, RunState]:
            is_applied, document = await self._world.metadata.record_transition(ask)
            if is_applied and cause is TransitionCause.HEARTBEAT_LOST:
                self._world.take_verdict(run_key, self._name)
            return is_applied, document.state

        return await self._ask(record)

    async def record_run_event(
        self,
        run_key: RunKey,
        *,
        kind: RunEventKind,
        evidence: str,
        actor: str,
        attempt_count: int,
        writer: int = 0,
        since_unix_ns: int | None = None,
    ) -> bool:
        ask = RecordEvent(run_key, kind, evidence, actor, attempt_count, writer, since_unix_ns)

        async def record() -> bool:
            is_applied = await self._world.metadata.record_run_event(ask)
            if is_applied:
                self._world.note(f"{self._name} says {kind.value} of {run_key}: {evidence}")
                if kind in (RunEventKind.STALLED, RunEventKind.PROGRESSED):
                    flags = self._world.stall_flags.setdefault(run_key, [])
                    flags.append((self._world.now_s, kind))
                elif kind is RunEventKind.WRITER_LOST:
                    self._world.lost_writers.setdefault(run_key, []).append(writer)
            return is_applied

        return await self._ask(record)

    async def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        await self._ask(lambda: self._world.metadata.record_heartbeats(list(heartbeats)))

    async def list_live_runs(self) -> list[LiveRun]:
        found, _ = await self._ask(
            lambda: self._world.metadata.list_live_runs(page_size=10_000, page_token="")
        )
        timeouts_s = self._world.timeouts_s
        return [replace(run, crash_timeout_s=timeouts_s[run.run_key]) for run in found]

    async def list_open_writers(self, run_key: RunKey) -> set[int]:
        writers, _ = await self._ask(
            lambda: self._world.metadata.list_writers(
                path=None, run_key=run_key, page_size=10_000, page_token=""
            )
        )
        messages = [life_messages.writer_to_message(writer) for writer in writers]
        return monitor_messages.open_writers(metadata_pb2.ListRunWritersResponse(writers=messages))

    async def list_stop_requests(self) -> dict[RunKey, StopStatus]:
        return {}

    async def renew_monitor_replica(
        self, replica_id: str, *, address: str, lease_s: float, is_leaving: bool
    ) -> tuple[MonitorReplica, ...]:
        replica = MonitorReplica(replica_id, address)
        return tuple(
            await self._ask(
                lambda: self._world.metadata.renew_replica(
                    replica, lease_s=lease_s, is_leaving=is_leaving
                )
            )
        )

    async def _ask(self, make: Callable[[], Awaitable[T]]) -> T:
        return await self._world.call(self._name, METADATA, make)


class WayToPeers:
    """The other replicas as one reaches them: monitor.ports.Peers."""

    def __init__(self, name: str, world: World) -> None:
        self._name = name
        self._world = world

    async def pass_on(
        self,
        peer: MonitorReplica,
        *,
        replica_id: str,
        beats: Sequence[Beat],
        has_more: bool,
        timeout_s: float,
    ) -> HeartbeatAnswer:
        def make() -> Awaitable[HeartbeatAnswer]:
            service = self._service_at(peer.address)
            return service.take_passed_on(replica_id, beats, has_more=has_more)

        return await self._world.call(self._name, peer.address, make)

    async def get_liveness(
        self, peer: MonitorReplica, paths: Sequence[str], *, timeout_s: float
    ) -> list[Liveness]:
        return await self._world.call(
            self._name,
            peer.address,
            lambda: self._service_at(peer.address).get_liveness(paths, is_forwarded=True),
        )

    async def list_writers(
        self, peer: MonitorReplica, path: str, *, timeout_s: float
    ) -> RunWriters:
        return await self._world.call(
            self._name,
            peer.address,
            lambda: self._service_at(peer.address).list_writers(path, is_forwarded=True),
        )

    async def hang_up(self, peer: MonitorReplica) -> None: ...

    def _service_at(self, address: str) -> MonitorService:
        return next(node.service for node in self._world.nodes if node.name == address)


class Agent:
    """Beats for its runs at the pace that it is told; holds on to a replica until that does not answer."""

    def __init__(self, name: str, world: World, run_keys: list[RunKey]) -> None:
        self.name = name
        self.writers = dict.fromkeys(run_keys, 1)
        """By run, which of its writers is here."""
        self.steps = dict.fromkeys(run_keys, 0)
        self.standing: dict[RunKey, None] = {}
        """Runs whose trainer here lives and makes no step."""
        self._world = world
        self._at = world.chance.between(0, len(world.nodes) - 1)
        self.last_sent_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def run_keys(self) -> list[RunKey]:
        """The runs that have a writer here."""
        return list(self.writers)

    async def join(self, run_key: RunKey) -> None:
        """Gets a further writer of another agent's run."""
        self.writers[run_key] = await self._world.add_writer(run_key)
        self.steps[run_key] = 0

    def start(self) -> None:
        """Begins to beat, a moment after it was started."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends without a word."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        world = self._world
        while True:
            await asyncio.sleep(world.chance.random.uniform(0.0, 0.2))
            pause_s = await self._beat()
            if pause_s is None:
                self._at = world.chance.between(0, len(world.nodes) - 1)
                pause_s = 2.0
            await asyncio.sleep(pause_s)

    async def _beat(self) -> float | None:
        """Returns the pause that the answer asks for, or None if there was no answer."""
        world = self._world
        for run_key in self.steps:
            self.steps[run_key] += run_key not in self.standing
        sent_s = self.last_sent_s = world.now_s
        beats = [
            Beat(key, number, last_step=self.steps[key]) for key, number in self.writers.items()
        ]
        node = world.nodes[self._at]
        try:
            answer = await world.call(
                self.name, node.name, lambda: node.service.heartbeat(self.name, beats)
            )
        except DomainError as error:
            world.note(f"{self.name} at {node.name}: {error.message}")
            return None
        world.note(
            f"{self.name} at {node.name}, sent {sent_s:.3f}: next in {answer.next_beat_s:g} s"
        )
        for beat in beats:
            world.heard_s[beat.run_key].append(sent_s)
        if answer.unknown_run_keys:
            world.problems.append(f"{node.name} calls {answer.unknown_run_keys} unknown")
        return answer.next_beat_s


async def _as_coroutine(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


async def _after(delay_s: float, make: Callable[[], Awaitable[T]]) -> T:
    await asyncio.sleep(delay_s)
    return await make()


def _retrieve(work: asyncio.Task[Any]) -> None:
    """Looks at the outcome: a second copy of a request, or one given up, has nobody who listens."""
    if not work.cancelled() and isinstance(work.exception(), Dead):
        return


def _no_answer(problem: str) -> Unavailable:
    return Unavailable("SERVICE_UNAVAILABLE", problem)
