"""The monitor service: takes heartbeats, and decides which runs are alive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import grpc.aio
from prometheus_client import Counter

from runyard_server.domain.beats import (
    Beat,
    HeartbeatAnswer,
    Liveness,
    MonitorReplica,
    RunWriters,
    WriterLiveness,
)
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, InvalidArgument, Unavailable
from runyard_server.domain.run import LIVE_STATES, RunKey
from runyard_server.monitor.config import (
    BEAT_INTERVAL_FLOOR_S,
    BEATS_PER_TIMEOUT,
    MonitorConfig,
    roster_rules,
)
from runyard_server.monitor.handler import MonitorHandler
from runyard_server.monitor.liveness import LivenessTable
from runyard_server.monitor.lookups import Lookups
from runyard_server.monitor.membership import Membership
from runyard_server.monitor.passing import Passing
from runyard_server.monitor.ports import Peers, RunDirectory
from runyard_server.monitor.replicas import Roster
from runyard_server.monitor.stops import Stops
from runyard_server.monitor.sweeper import Sweeper
from runyard_server.monitor.watched import LivenessRules

AGENT_ID_BYTES_MAX = 128
BEAT_COUNT_MAX = 10_000
PATH_COUNT_MAX = 1000
SOON_S = 2.0
"""When to beat next if something is open: who a run is, how short its timeout is, whether its owner has heard it."""

BEATS = Counter("runyard_monitor_beats_total", "Beats taken in: one for each run and writer.")


def build(
    config: MonitorConfig,
    *,
    siblings: RunDirectory,
    peers: Peers,
    clock: Clock,
    address: str,
) -> MonitorService:
    """Returns the service, not started; `address` is where its process listens."""
    return MonitorService(config, siblings=siblings, peers=peers, clock=clock, address=address)


class MonitorService:
    """Answers the calls of MonitorService in the words of the domain."""

    name = "monitor"

    def __init__(
        self,
        config: MonitorConfig,
        *,
        siblings: RunDirectory,
        peers: Peers,
        clock: Clock,
        address: str,
    ) -> None:
        self._config = config
        self._directory = siblings
        self._peers = peers
        self._clock = clock
        self._rules = LivenessRules(
            crash_timeout_s=config.crash_timeout_s,
            stall_timeout_s=config.stall_timeout_s,
            straggler_steps=config.straggler_steps,
            beat_interval_max_s=config.beat_interval_max_s,
        )
        self.table = LivenessTable(self._rules)
        """The runs that this replica watches."""
        own_address = config.address or address
        self.roster = Roster(
            f"monitor-{clock.random_bits(64):016x}", own_address, roster_rules(config)
        )
        self.passing = Passing(
            self.roster,
            peers=peers,
            clock=clock,
            gather_s=config.gather_s,
            call_timeout_s=config.lookup_timeout_s,
            note_count_max=config.note_count_max,
        )
        self.membership = Membership(
            self.roster,
            self.table,
            directory=siblings,
            clock=clock,
            address=own_address,
            lease_s=config.lease_s,
            call_timeout_s=config.call_timeout_s,
            hand_over=self.passing.lay_aside,
        )
        self._lookups = Lookups(
            self.table,
            directory=siblings,
            clock=clock,
            table_s=self.membership.table_s,
            is_own=lambda run_key: self._owner_of(run_key) is None,
            concurrency_max=config.call_concurrency_max,
            memory_s=config.not_live_memory_s,
            memory_count_max=config.not_live_count_max,
        )
        self.sweeper = Sweeper(
            self.table,
            roster=self.roster,
            membership=self.membership,
            directory=siblings,
            clock=clock,
            concurrency_max=config.call_concurrency_max,
            call_timeout_s=config.call_timeout_s,
        )
        self.stops = Stops(directory=siblings, clock=clock, call_timeout_s=config.call_timeout_s)

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the servicer to the server."""
        return MonitorHandler(self).register(server)

    async def start(self) -> None:
        """Does nothing: memory is rebuilt once the services answer, by `run`."""

    async def run(self) -> None:
        """Watches until cancelled."""
        config = self._config
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.membership.keep_looking(config.sweep_interval_s))
            tasks.create_task(
                self.membership.keep_renewing(config.renew_interval_s, config.sweep_interval_s)
            )
            tasks.create_task(
                self.sweeper.run(
                    sweep_interval_s=config.sweep_interval_s,
                    refresh_interval_s=config.refresh_interval_s,
                    record_interval_s=config.record_interval_s,
                )
            )
            tasks.create_task(self.stops.keep_polling(config.sweep_interval_s))
            tasks.create_task(self._keep_passing_on())

    async def begin_stop(self) -> None:
        """Has beats noted, and taken by others, while these answer for sure: in one process metadata stops when this does."""
        self.sweeper.is_stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.lookup_timeout_s):
                await self.sweeper.record_beats()
                await self.passing.flush()
                await self.membership.leave()

    async def stop(self) -> None:
        """Has the last beats noted; a verdict that is not recorded yet comes up again after the next start."""
        await self.passing.close()
        await self.sweeper.record_beats()

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> HeartbeatAnswer:
        """Takes in the beats of one agent. Safe to repeat.

        Raises Unavailable if they can neither be taken in nor be kept for the one whose they are.
        """
        _check_beats(agent_id, beats)
        BEATS.inc(len(beats))
        heard = self.table.note_beats(
            beats,
            agent_id=agent_id,
            now_s=self.membership.table_s(),
            now_unix_ns=self._clock.now_unix_ns(),
        )
        pause_s = self._pause_s(len(beats), heard.timeout_min_s)
        unknown: tuple[RunKey, ...] = ()
        # A replica whose lease is over speaks for no run: others may have taken them all.
        is_lapsed = self.roster.is_lapsed(self._clock.monotonic_s())
        open_beats = beats if is_lapsed else heard.strange
        if open_beats:
            unknown, soonest_s = await self._take_open(open_beats, agent_id)
            pause_s = min(pause_s, soonest_s)
        return HeartbeatAnswer(pause_s, unknown, self.stops.orders_for(beats))

    async def take_passed_on(
        self, replica_id: str, beats: Sequence[Beat], *, has_more: bool
    ) -> HeartbeatAnswer:
        """Takes in beats that another replica passes on: of this one's runs only, the others are refused. Safe to repeat."""
        _check_beats(replica_id, beats)
        BEATS.inc(len(beats))
        heard = self.table.note_beats(
            beats,
            agent_id=replica_id,
            now_s=self.membership.table_s(),
            now_unix_ns=self._clock.now_unix_ns(),
        )
        pause_s = self._pause_s(len(beats), heard.timeout_min_s)
        unknown: tuple[RunKey, ...] = ()
        refused: tuple[RunKey, ...] = ()
        if self.roster.is_lapsed(self._clock.monotonic_s()):
            refused = tuple(dict.fromkeys(beat.run_key for beat in beats))
        elif heard.strange:
            owned = self._owned(heard.strange)
            own = [beat for beat, is_own in zip(heard.strange, owned, strict=True) if is_own]
            refused = tuple(
                dict.fromkeys(
                    beat.run_key
                    for beat, is_own in zip(heard.strange, owned, strict=True)
                    if not is_own
                )
            )
            if own:
                resolved = await self._lookups.resolve(
                    own, agent_id=replica_id, timeout_s=self._config.lookup_timeout_s / 2
                )
                unknown = tuple(resolved.unknown)
                refused += tuple(dict.fromkeys(beat.run_key for beat in resolved.moved))
                pause_s = SOON_S
        if not has_more:
            self.roster.note_all_clear(replica_id, now_s=self._clock.monotonic_s())
        return HeartbeatAnswer(
            pause_s, unknown, self.stops.orders_for(beats), refused_run_keys=refused
        )

    async def get_liveness(
        self, paths: Sequence[str], *, is_forwarded: bool = False
    ) -> list[Liveness]:
        """Returns what is known of those of the runs that are live; other replicas are asked for what is not known here."""
        _check_count("run_paths", len(paths), PATH_COUNT_MAX, "entries")
        now_s = self.membership.table_s()
        found = {path: self.table.find(path, now_s=now_s) for path in paths}
        missing = [path for path, liveness in found.items() if liveness is None]
        if missing and self.roster.peers and not is_forwarded:
            for liveness in await self._ask_peers(missing):
                found[liveness.run_path] = liveness
        return [liveness for liveness in found.values() if liveness is not None]

    async def list_writers(self, path: str, *, is_forwarded: bool = False) -> RunWriters:
        """Returns what is known of the writers of a live run, those too that have not beaten here yet.

        Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable.
        """
        writers = self.table.find_writers(path, now_s=self.membership.table_s())
        nothing = RunWriters((), None, self._config.straggler_steps)
        if is_forwarded:
            return writers or nothing
        document = await self._directory.get_run(path=path)
        if document.state not in LIVE_STATES:
            return nothing
        if writers is None:
            owner = self._owner_of(document.run_key)
            if owner is not None:
                writers = await self._peers.list_writers(
                    owner, path, timeout_s=self._config.lookup_timeout_s
                )
        writers = writers or nothing
        known = {writer.writer for writer in writers.writers}
        unheard = await self._directory.list_open_writers(document.run_key) - known
        every = (*writers.writers, *(_unheard(number) for number in unheard))
        return replace(writers, writers=tuple(sorted(every, key=lambda one: one.writer)))

    async def pass_on_round(self) -> None:
        """Takes up what has no way to its owner, and sends the others what waits for them, or that nothing does."""
        stray = self.passing.take_unrouted()
        now_s = self._clock.monotonic_s()
        own, others, owners = self._route(stray)
        if own:
            aged = [beat._replace(age_s=now_s - beat.age_s) for beat in own]
            heard = self.table.note_beats(
                aged,
                agent_id=self.roster.replica_id,
                now_s=self.membership.table_s(),
                now_unix_ns=self._clock.now_unix_ns(),
            )
            resolved = await self._lookups.resolve(
                heard.strange,
                agent_id=self.roster.replica_id,
                timeout_s=self._config.lookup_timeout_s,
            )
            self._keep_moved(resolved.moved, self.roster.replica_id)
        if others:
            self.passing.keep(others, owners)
        gone, self.membership.gone = self.membership.gone, []
        for peer in gone:
            await self._peers.hang_up(peer)

    async def _keep_passing_on(self) -> None:
        while True:
            await self.pass_on_round()
            self.passing.begin_flush()
            await asyncio.sleep(self._config.sweep_interval_s)

    async def _take_open(
        self, beats: Sequence[Beat], agent_id: str
    ) -> tuple[tuple[RunKey, ...], float]:
        """Has beats passed on that are others', and looks up runs not known here.

        Returns which runs are unknown, and the longest pause that the others allow.
        """
        if not await self.membership.make_known(wait_s=self._config.lookup_timeout_s):
            raise Unavailable(
                "SERVICE_UNAVAILABLE",
                "the monitor has just started and does not know yet whose runs these are; repeat",
                metadata={"service": self.name},
                retry_delay_s=self._config.sweep_interval_s,
            )
        now_s = self._clock.monotonic_s()
        own, others, owners = self._route(beats)
        is_cut_off = self.roster.is_lapsed(now_s)
        pauses_s = [self._config.beat_interval_max_s]
        unknown: list[RunKey] = []
        if others:
            notes = [
                beat._replace(age_s=now_s, agent_id=beat.agent_id or agent_id) for beat in others
            ]
            passed = await self.passing.pass_on(notes, owners, wait_s=self._config.lookup_timeout_s)
            is_cut_off = is_cut_off and passed.next_beat_s is None
            unknown.extend(passed.unknown_run_keys)
            pauses_s.append(passed.next_beat_s or SOON_S)
        if is_cut_off:
            raise Unavailable(
                "SERVICE_UNAVAILABLE",
                "this monitor is cut off from metadata, and nobody took the beats over from it; repeat, at another replica "
                "if there is one",
                metadata={"service": self.name},
                retry_delay_s=self._config.sweep_interval_s,
            )
        if own:
            resolved = await self._lookups.resolve(
                own, agent_id=agent_id, timeout_s=self._config.lookup_timeout_s
            )
            unknown.extend(resolved.unknown)
            self._keep_moved(resolved.moved, agent_id)
            # Until a refresh the timeout of a new run is not known; it may be short.
            pauses_s.append(SOON_S)
        return tuple(unknown), min(pauses_s)

    def _keep_moved(self, beats: Sequence[Beat], agent_id: str) -> None:
        """Has beats passed on whose runs moved to another replica while metadata was asked about them."""
        now_s = self._clock.monotonic_s()
        _, others, owners = self._route(beats)
        notes = [beat._replace(age_s=now_s, agent_id=beat.agent_id or agent_id) for beat in others]
        self.passing.keep(notes, owners)

    def _route(self, beats: Sequence[Beat]) -> tuple[list[Beat], list[Beat], list[MonitorReplica]]:
        """Returns this replica's beats, the others', and whose each of these is."""
        if not self.roster.peers or not beats:
            return list(beats), [], []
        own, others, owners = [], [], []
        indexes = self.roster.owner_indexes(
            [beat.run_key for beat in beats], now_s=self._clock.monotonic_s()
        )
        for beat, index in zip(beats, indexes.tolist(), strict=True):
            if index < 0:
                own.append(beat)
            else:
                others.append(beat)
                owners.append(self.roster.peers[index])
        return own, others, owners

    def _owned(self, beats: Sequence[Beat]) -> list[bool]:
        if not self.roster.is_known:
            return [False] * len(beats)
        return self.roster.owned([beat.run_key for beat in beats], now_s=self._clock.monotonic_s())

    def _owner_of(self, run_key: RunKey) -> MonitorReplica | None:
        [index] = self.roster.owner_indexes([run_key], now_s=self._clock.monotonic_s()).tolist()
        return None if index < 0 else self.roster.peers[index]

    async def _ask_peers(self, paths: Sequence[str]) -> list[Liveness]:
        """Returns what the others know; one that does not answer is left out, and its runs with it."""

        async def ask(peer: MonitorReplica) -> list[Liveness]:
            try:
                return await self._peers.get_liveness(
                    peer, paths, timeout_s=self._config.lookup_timeout_s
                )
            except DomainError:
                return []

        answers = await asyncio.gather(*(ask(peer) for peer in self.roster.peers))
        return [liveness for answer in answers for liveness in answer]

    def _pause_s(self, beat_count: int, timeout_min_s: float) -> float:
        """Returns when to beat next: soon while there are few runs, and several times within the shortest timeout."""
        config = self._config
        wanted_s = max(len(self.table), beat_count) / config.beats_per_s
        pause_s = min(max(wanted_s, config.beat_interval_min_s), config.beat_interval_max_s)
        return max(min(pause_s, timeout_min_s / BEATS_PER_TIMEOUT), BEAT_INTERVAL_FLOOR_S)


def _unheard(number: int) -> WriterLiveness:
    return WriterLiveness(
        writer=number,
        last_beat_unix_ns=None,
        last_step=None,
        records_written=0,
        records_durable=0,
        is_straggler=False,
        is_silent=False,
        is_process_alive=False,
        agent_id="",
    )


def _check_beats(agent_id: str, beats: Sequence[Beat]) -> None:
    _check_count("agent_id", len(agent_id.encode()), AGENT_ID_BYTES_MAX, "bytes")
    _check_count("beats", len(beats), BEAT_COUNT_MAX, "entries")
    if not agent_id:
        raise InvalidArgument(
            "FIELD_INVALID",
            "agent_id is empty; send what identifies the agent process",
            metadata={"field": "agent_id", "value": ""},
        )


def _check_count(field: str, value: int, limit: int, unit: str) -> None:
    if value > limit:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"{field} has {value} {unit}, at most {limit} are allowed",
            metadata={"field": field, "value": value, "limit": limit},
        )
