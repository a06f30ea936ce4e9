"""A monitor over a real metadata service in memory; time moves by hand."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_server.domain.beats import Beat, HeartbeatAnswer, Liveness, MonitorReplica, RunWriters
from runyard_server.domain.errors import Unavailable
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.run import (
    LiveRun,
    RunDocument,
    RunKey,
    RunState,
    StopStatus,
    TransitionCause,
)
from runyard_server.metadata.requests import RecordEvent, RecordTransition
from runyard_server.metadata.starts import StartedRun
from runyard_server.monitor.config import MonitorConfig
from runyard_server.monitor.service import MonitorService
from runyard_server.rpc import life_messages, monitor_messages
from tests.unit.metadata.desk import Desk


class Directory:
    """Metadata as siblings show it, with faults."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.is_away = False
        self.is_event_lost = False
        self.lookup_count = 0
        self.stops: dict[RunKey, StopStatus] = {}
        self.settings: dict[RunKey, LiveRun] = {}
        """Live runs whose projects have settings: these stand in for what metadata lists."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        self.lookup_count += 1
        self._check()
        return await self._desk.service.get_run(path=path, run_key=run_key)

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
        self._check()
        is_applied, document = await self._desk.service.record_transition(
            RecordTransition(
                run_key=run_key,
                from_state=from_state,
                to_state=to_state,
                cause=cause,
                evidence=evidence,
                actor=actor,
                attempt_count=attempt_count,
                end_time_unix_ns=end_time_unix_ns,
            )
        )
        return is_applied, document.state

    async def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        self._check()
        await self._desk.service.record_heartbeats(list(heartbeats))

    async def list_live_runs(self) -> list[LiveRun]:
        self._check()
        found, _ = await self._desk.service.list_live_runs(page_size=10_000, page_token="")
        return [self.settings.get(run.run_key, run) for run in found]

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
        self._check()
        if self.is_event_lost:
            raise Unavailable("SERVICE_UNAVAILABLE", "the event did not arrive")
        ask = RecordEvent(run_key, kind, evidence, actor, attempt_count, writer, since_unix_ns)
        return await self._desk.service.record_run_event(ask)

    async def list_open_writers(self, run_key: RunKey) -> set[int]:
        self._check()
        writers, _ = await self._desk.service.list_writers(
            path=None, run_key=run_key, page_size=10_000, page_token=""
        )
        page = metadata_pb2.ListRunWritersResponse(
            writers=[life_messages.writer_to_message(writer) for writer in writers]
        )
        return monitor_messages.open_writers(page)

    async def list_stop_requests(self) -> dict[RunKey, StopStatus]:
        self._check()
        return dict(self.stops)

    async def renew_monitor_replica(
        self, replica_id: str, *, address: str, lease_s: float, is_leaving: bool
    ) -> tuple[MonitorReplica, ...]:
        self._check()
        living = await self._desk.service.renew_replica(
            MonitorReplica(replica_id, address), lease_s=lease_s, is_leaving=is_leaving
        )
        return tuple(living)

    def _check(self) -> None:
        if self.is_away:
            raise Unavailable("SERVICE_UNAVAILABLE", "metadata is away")


class NoPeers:
    """The other replicas of a monitor that is alone."""

    async def pass_on(
        self,
        peer: MonitorReplica,
        *,
        replica_id: str,
        beats: Sequence[Beat],
        has_more: bool,
        timeout_s: float,
    ) -> HeartbeatAnswer:
        raise Unavailable("SERVICE_UNAVAILABLE", f"nobody is at {peer.address}")

    async def get_liveness(
        self, peer: MonitorReplica, paths: Sequence[str], *, timeout_s: float
    ) -> list[Liveness]:
        raise Unavailable("SERVICE_UNAVAILABLE", f"nobody is at {peer.address}")

    async def list_writers(
        self, peer: MonitorReplica, path: str, *, timeout_s: float
    ) -> RunWriters:
        raise Unavailable("SERVICE_UNAVAILABLE", f"nobody is at {peer.address}")

    async def hang_up(self, peer: MonitorReplica) -> None: ...


class Ward:
    """A monitor and what it watches; `pass_time` does what its background tasks do."""

    def __init__(self, config: MonitorConfig | None = None) -> None:
        self.desk = Desk()
        self.clock = self.desk.clock
        self.directory = Directory(self.desk)
        self.config = config or MonitorConfig()
        self.start_monitor()

    def start_monitor(self) -> None:
        """Starts a monitor that remembers nothing; the one before is gone."""
        self.monitor = MonitorService(
            self.config,
            siblings=self.directory,
            peers=NoPeers(),
            clock=self.clock,
            address="127.0.0.1:1",
        )
        self._next_refresh_s = self._next_renewal_s = self.clock.monotonic_s()

    async def pass_time(self, seconds: float) -> None:
        """Lets time pass in steps of the sweep interval."""
        until_s = self.clock.monotonic_s() + seconds
        while True:
            await self.tick()
            left_s = until_s - self.clock.monotonic_s()
            if left_s <= 0:
                return
            self.clock.advance(min(left_s, self.config.sweep_interval_s))

    async def tick(self) -> None:
        """Does one round of the monitor's background work."""
        sweeper = self.monitor.sweeper
        self.monitor.membership.look()
        if self.clock.monotonic_s() >= self._next_renewal_s:
            is_done = await self.monitor.membership.renew()
            pause_s = self.config.renew_interval_s if is_done else self.config.sweep_interval_s
            self._next_renewal_s = self.clock.monotonic_s() + pause_s
        if self.clock.monotonic_s() >= self._next_refresh_s:
            is_done = await sweeper.refresh()
            pause_s = self.config.refresh_interval_s if is_done else self.config.sweep_interval_s
            self._next_refresh_s = self.clock.monotonic_s() + pause_s
        await sweeper.sweep()

    async def beat(self, *runs: StartedRun, is_process_alive: bool = True) -> HeartbeatAnswer:
        beats = [
            Beat(run.run.run_key, run.writer.writer, is_process_alive=is_process_alive)
            for run in runs
        ]
        return await self.monitor.heartbeat("agent-1", beats)

    async def events(self, run: StartedRun) -> list[RunEvent]:
        """Returns what happened to the run besides its changes of state."""
        found, _ = await self.desk.service.list_events(run.run.path, page_size=0, page_token="")
        return [event for event in found if event.kind is not RunEventKind.TRANSITION]

    async def states(self, runs: Sequence[StartedRun]) -> list[RunState]:
        return [(await self.desk.read(run)).state for run in runs]

    async def crash_count(self, run: StartedRun) -> int:
        steps = await self.desk.history(run)
        return sum(step.cause is TransitionCause.HEARTBEAT_LOST for step in steps)
