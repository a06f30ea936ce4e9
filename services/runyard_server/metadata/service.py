"""The metadata service: owns run documents, their states and history, and publishes them to the index of runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import grpc.aio

from runyard_server.domain.attempts import RunAttempt
from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.notifications import NotificationReport, NotificationState
from runyard_server.domain.page_tokens import clamp_page_size, make_page_token, read_page_token
from runyard_server.domain.projects import Project
from runyard_server.domain.run import (
    LiveRun,
    RunDocument,
    RunKey,
    RunTransition,
    StopStage,
)
from runyard_server.domain.writers import Writer
from runyard_server.metadata import ends, notices, projects, runs, starts, stops
from runyard_server.metadata.handler import MetadataHandler
from runyard_server.metadata.notices import Notice
from runyard_server.metadata.outbox import Outbox, OutboxConfig
from runyard_server.metadata.project_settings import ProjectEdit, update_project
from runyard_server.metadata.purger import DataPurger, Purger, PurgerConfig
from runyard_server.metadata.requests import (
    FinishRun,
    RecordEvent,
    RecordTransition,
    RunChange,
    RunEdit,
    RunLimits,
    StartRun,
    clamp_time,
)
from runyard_server.metadata.stops import StopWish
from runyard_server.metadata.trash import TRASH_WINDOW_DEFAULT_S, Trash
from runyard_server.storage.ports.points import RunPurger
from runyard_server.storage.ports.run_store import (
    ProjectPosition,
    RunStore,
    RunTransaction,
)
from runyard_server.storage.ports.runs import RunIndex

T = TypeVar("T")
HEARTBEAT_COUNT_MAX = 10_000
REPORT_COUNT_MAX = 1_000
REPLICA_ID_LENGTH_MAX = 128
LEASE_SLACK_NS = 60_000_000_000
"""By how much leases, and the clocks of two metadata processes, may differ."""
_TRANSITIONS = frozenset({RunEventKind.TRANSITION})


@dataclass(frozen=True, slots=True)
class MetadataConfig:
    """How metadata keeps runs."""

    limits: RunLimits = field(default_factory=RunLimits)
    """How large a run's document may get."""
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    """How documents are published to the index."""
    purger: PurgerConfig = field(default_factory=PurgerConfig)
    """How deleted runs are purged."""
    trash_window_s: float = TRASH_WINDOW_DEFAULT_S
    """How long deleted runs can be restored, unless their project says otherwise."""
    stop_flush_timeout_s: float = 5.0
    """How long a stopping service goes on publishing; what is left waits in the store."""


def build(
    config: MetadataConfig,
    *,
    runs: RunStore,
    index: RunIndex,
    clock: Clock,
    steps: StepSource,
    index_purger: RunPurger,
    data: DataPurger,
) -> MetadataService:
    """Returns the service, not started."""
    return MetadataService(
        config,
        runs=runs,
        index=index,
        clock=clock,
        steps=steps,
        index_purger=index_purger,
        data=data,
    )


class StepSource(Protocol):
    """What knows how far runs have come; rpc.siblings.Siblings asks query."""

    async def last_step(self, path: str) -> int | None:
        """Returns the largest step of the run's history, None if it has no points. Raises Unavailable."""
        ...


class MetadataService:
    """Answers the calls of MetadataService in the words of the domain; each is one transaction."""

    name = "metadata"

    def __init__(
        self,
        config: MetadataConfig,
        *,
        runs: RunStore,
        index: RunIndex,
        clock: Clock,
        steps: StepSource | None = None,
        index_purger: RunPurger | None = None,
        data: DataPurger | None = None,
    ) -> None:
        self._steps = steps
        self._config = config
        self._runs = runs
        self._clock = clock
        self._outbox = Outbox(config.outbox, runs=runs, index=index, clock=clock)
        self._purger: Purger | None = None
        if index_purger is not None and data is not None:
            self._purger = Purger(
                config.purger, runs=runs, index=index_purger, data=data, clock=clock
            )
        self.trash = Trash(
            runs=runs,
            clock=clock,
            limits=config.limits,
            trash_window_s=config.trash_window_s,
            on_change=self._wake,
        )

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the servicer to the server."""
        return MetadataHandler(self).register(server)

    async def start(self) -> None:
        """Does nothing: the store is started by the process."""

    async def run(self) -> None:
        """Publishes documents, and purges deleted runs, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outbox.run())
            if self._purger is not None:
                tasks.create_task(self._purger.run())

    async def stop(self) -> None:
        """Publishes what waits, for a limited time."""
        await self._outbox.flush(timeout_s=self._config.stop_flush_timeout_s)

    async def start_run(self, ask: StartRun) -> starts.StartedRun:
        """Starts a run or a further attempt at one. Safe to repeat by request_id."""
        limits = self._config.limits
        if ask.fork is not None or ask.rewind_to_step is not None:
            await self._check_step(ask)
        return await self._change(
            lambda tx: starts.start_run(tx, ask, clock=self._clock, limits=limits)
        )

    async def _check_step(self, ask: StartRun) -> None:
        needed = await self._runs.transact(lambda tx: starts.needed_step(tx, ask))
        if needed is not None and self._steps is not None:
            path, step = needed
            starts.check_step_reached(path, step, last_step=await self._steps.last_step(path))

    async def apply_changes(self, run_key: RunKey, writer: int, changes: list[RunChange]) -> int:
        """Applies a writer's changes and returns its highest applied sequence. Safe to repeat."""
        return await self._change(
            lambda tx: runs.apply_changes(
                tx,
                run_key,
                writer,
                changes,
                now_unix_ns=self._clock.now_unix_ns(),
                limits=self._config.limits,
            )
        )

    async def finish_run(self, ask: FinishRun) -> RunDocument:
        """Ends a writer's part. Safe to repeat."""
        return await self._change(
            lambda tx: ends.finish_run(
                tx, ask, now_unix_ns=self._clock.now_unix_ns(), limits=self._config.limits
            )
        )

    async def record_transition(self, ask: RecordTransition) -> tuple[bool, RunDocument]:
        """Records a state change from outside the run's stream. Safe to repeat."""
        return await self._change(
            lambda tx: ends.record_transition(
                tx, ask, now_unix_ns=self._clock.now_unix_ns(), limits=self._config.limits
            )
        )

    async def record_run_event(self, ask: RecordEvent) -> bool:
        """Records what a watcher saw of a live run; returns whether that was news. Safe to repeat."""
        return await self._change(
            lambda tx: ends.record_run_event(
                tx, ask, now_unix_ns=self._clock.now_unix_ns(), limits=self._config.limits
            )
        )

    async def request_stop(self, wish: StopWish) -> RunDocument:
        """Notes that a user wants a run stopped. Safe to repeat."""
        return await self._change(
            lambda tx: stops.request_stop(
                tx, wish, now_unix_ns=self._clock.now_unix_ns(), limits=self._config.limits
            )
        )

    async def record_stop_stage(
        self, run_key: RunKey, writer: int, stage: StopStage, evidence: str
    ) -> RunDocument:
        """Notes how far the stop of a run has come. Safe to repeat."""
        return await self._change(
            lambda tx: stops.record_stop_stage(
                tx,
                run_key,
                writer,
                stage,
                evidence,
                now_unix_ns=self._clock.now_unix_ns(),
                limits=self._config.limits,
            )
        )

    async def list_open_stops(
        self, *, page_size: int, page_token: str
    ) -> tuple[list[RunDocument], str]:
        """Returns a page of live runs that are to be stopped, and the token of the next one."""
        position = read_page_token("open stops", page_token, int)
        after_key = RunKey(int(position[0])) if position else None
        limit = clamp_page_size(page_size, default=1000, limit=10_000)
        found = await self._runs.transact(
            lambda tx: tx.list_open_stops(after_key=after_key, limit=limit + 1)
        )
        is_last = len(found) <= limit
        token = "" if is_last else make_page_token("open stops", found[limit - 1].run_key)
        return found[:limit], token

    async def renew_replica(
        self, replica: MonitorReplica, *, lease_s: float, is_leaving: bool
    ) -> list[MonitorReplica]:
        """Keeps a replica of the monitor in the list, or takes it off; returns the living ones. Safe to repeat."""
        if not 0 < len(replica.replica_id) <= REPLICA_ID_LENGTH_MAX:
            raise InvalidArgument(
                "FIELD_INVALID",
                f"replica_id has {len(replica.replica_id)} characters; it has 1 to {REPLICA_ID_LENGTH_MAX}",
                metadata={"field": "replica_id", "value": len(replica.replica_id)},
            )

        def act(tx: RunTransaction) -> list[MonitorReplica]:
            now = self._clock.now_unix_ns()
            end = now + round(lease_s * 1e9)
            if is_leaving:
                tx.remove_replica(replica.replica_id)
            else:
                tx.renew_replica(replica, lease_end_unix_ns=end)
            # A lease that ends later than one given now is of the time before the clock was set back: nobody keeps it alive.
            return tx.list_replicas(now_unix_ns=now, end_unix_ns=end + LEASE_SLACK_NS)

        return await self._runs.transact(act)

    async def lease_notices(self, *, limit: int, lease_s: float) -> list[Notice]:
        """Hands out notifications that are due, each to one caller until its lease ends."""
        return await self._runs.transact(
            lambda tx: notices.lease_notices(
                tx,
                now_unix_ns=self._clock.now_unix_ns(),
                lease_ns=round(lease_s * 1e9),
                limit=clamp_page_size(limit, default=100, limit=1000),
            )
        )

    async def report_notifications(self, reports: list[NotificationReport]) -> None:
        """Notes what became of notifications. Safe to repeat."""
        if len(reports) > REPORT_COUNT_MAX:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"reports has {len(reports)} entries, at most {REPORT_COUNT_MAX} fit one request",
                metadata={"field": "reports", "value": len(reports), "limit": REPORT_COUNT_MAX},
            )

        def act(tx: RunTransaction) -> None:
            for report in reports:
                tx.report_notification(report)

        await self._runs.transact(act)

    async def list_notifications(
        self, path: str, states: frozenset[NotificationState], *, page_size: int, page_token: str
    ) -> tuple[list[Notice], str]:
        """Returns a page of a project's notifications, newest first, and the token of the next one."""
        query = f"notifications {path} {sorted(state.value for state in states)}"
        position = read_page_token(query, page_token, int)
        before = int(position[0]) if position else None
        limit = clamp_page_size(page_size, default=100, limit=1000)

        def read(tx: RunTransaction) -> tuple[list[Notice], str]:
            project = projects.find_project(tx, path)
            found = tx.list_notifications(
                project.entity,
                project.name,
                states=states,
                before_number=before,
                limit=limit + 1,
            )
            token = "" if len(found) <= limit else make_page_token(query, found[limit - 1].number)
            return notices.with_events(tx, found[:limit]), token

        return await self._runs.transact(read)

    async def update_project(self, edit: ProjectEdit) -> Project:
        """Changes a project's description and settings. Safe to repeat."""
        return await self._runs.transact(lambda tx: update_project(tx, edit))

    async def edit_run(self, path: str, edit: RunEdit) -> RunDocument:
        """Changes what a user may change. Safe to repeat."""
        return await self._change(
            lambda tx: runs.edit_run(
                tx, path, edit, now_unix_ns=self._clock.now_unix_ns(), limits=self._config.limits
            )
        )

    async def get_run(self, *, path: str | None, run_key: RunKey | None) -> RunDocument:
        """Returns the run of that path or key."""

        def read(tx: RunTransaction) -> RunDocument:
            if run_key is not None:
                return runs.with_heartbeat(tx, runs.find_run(tx, run_key))
            return runs.with_heartbeat(tx, runs.find_run_by_path(tx, path or ""))

        return await self._runs.transact(read)

    async def record_heartbeats(self, heartbeats: list[tuple[RunKey, int]]) -> None:
        """Notes when runs last gave a sign of life. Safe to repeat."""
        if len(heartbeats) > HEARTBEAT_COUNT_MAX:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"heartbeats has {len(heartbeats)} entries, at most {HEARTBEAT_COUNT_MAX} fit one request",
                metadata={
                    "field": "heartbeats",
                    "value": len(heartbeats),
                    "limit": HEARTBEAT_COUNT_MAX,
                },
            )
        latest = {key: clamp_time(time) or 0 for key, time in sorted(heartbeats)}
        await self._runs.transact(lambda tx: tx.record_heartbeats(list(latest.items())))

    async def list_transitions(
        self, path: str, *, page_size: int, page_token: str
    ) -> tuple[list[RunTransition], str]:
        """Returns a page of the run's history and the token of the next one."""
        found, token = await self.list_events(
            path, page_size=page_size, page_token=page_token, kinds=_TRANSITIONS
        )
        return [event.transition for event in found if event.transition], token

    async def list_events(
        self,
        path: str,
        *,
        page_size: int,
        page_token: str,
        kinds: frozenset[RunEventKind] | None = None,
    ) -> tuple[list[RunEvent], str]:
        """Returns a page of what happened to the run (of these kinds, if given) and the token of the next one."""
        query = f"{'events' if kinds is None else 'transitions'} {path}"
        position = read_page_token(query, page_token, int)
        after_number = int(position[0]) if position else 0
        limit = clamp_page_size(page_size, default=100, limit=1000)

        def read(tx: RunTransaction) -> list[RunEvent]:
            document = runs.find_run_by_path(tx, path)
            return tx.list_events(
                document.run_key, after_number=after_number, limit=limit + 1, kinds=kinds
            )

        found = await self._runs.transact(read)
        is_last = len(found) <= limit
        token = "" if is_last else make_page_token(query, found[limit - 1].number)
        return found[:limit], token

    async def list_writers(
        self, *, path: str | None, run_key: RunKey | None, page_size: int, page_token: str
    ) -> tuple[list[Writer], str]:
        """Returns a page of the run's writers, by number, and the token of the next one."""
        query = f"writers {path or run_key}"
        position = read_page_token(query, page_token, int)
        after_writer = int(position[0]) if position else 0
        limit = clamp_page_size(page_size, default=1000, limit=10_000)

        def read(tx: RunTransaction) -> list[Writer]:
            if run_key is not None:
                document = runs.find_run(tx, run_key)
            else:
                document = runs.find_run_by_path(tx, path or "")
            return tx.list_writers(document.run_key, after_writer=after_writer, limit=limit + 1)

        found = await self._runs.transact(read)
        is_last = len(found) <= limit
        token = "" if is_last else make_page_token(query, found[limit - 1].writer)
        return found[:limit], token

    async def list_attempts(self, path: str) -> list[RunAttempt]:
        """Returns the attempts of the run, oldest first; the current one as the run now is."""

        def read(tx: RunTransaction) -> list[RunAttempt]:
            document = runs.find_run_by_path(tx, path)
            return [
                replace(one, state=document.state, end_time_unix_ns=document.end_time_unix_ns)
                if one.attempt == document.attempt_count
                else one
                for one in tx.list_attempts(document.run_key)
            ]

        return await self._runs.transact(read)

    async def list_live_runs(self, *, page_size: int, page_token: str) -> tuple[list[LiveRun], str]:
        """Returns a page of live runs and the token of the next one."""
        position = read_page_token("live runs", page_token, int)
        after_key = RunKey(int(position[0])) if position else None
        limit = clamp_page_size(page_size, default=1000, limit=10_000)
        found = await self._runs.transact(
            lambda tx: tx.list_live_runs(after_key=after_key, limit=limit + 1)
        )
        is_last = len(found) <= limit
        token = "" if is_last else make_page_token("live runs", found[limit - 1].run_key)
        return found[:limit], token

    async def create_project(self, entity: str, name: str, description: str) -> Project:
        """Makes the project or returns the one that exists. Safe to repeat."""
        return await self._runs.transact(
            lambda tx: projects.create_project(
                tx,
                entity,
                name,
                description=description,
                now_unix_ns=self._clock.now_unix_ns(),
            )
        )

    async def get_project(self, path: str) -> Project:
        """Returns the project of that path."""
        return await self._runs.transact(lambda tx: projects.find_project(tx, path))

    async def list_projects(
        self, entity: str, *, page_size: int, page_token: str
    ) -> tuple[list[Project], str]:
        """Returns a page of projects, latest activity first, and the token of the next one."""
        query = f"projects {entity}"
        position = read_page_token(query, page_token, int, str, str)
        after = None
        if position:
            after = ProjectPosition(int(position[0]), str(position[1]), str(position[2]))
        limit = clamp_page_size(page_size, default=100, limit=1000)
        found = await self._runs.transact(
            lambda tx: tx.list_projects(entity=entity, after=after, limit=limit + 1)
        )
        if len(found) <= limit:
            return found, ""
        last = found[limit - 1]
        token = make_page_token(query, last.activity_time_unix_ns, last.entity, last.name)
        return found[:limit], token

    def now_unix_ns(self) -> int:
        """Returns the service's time, up to which the active time of live runs is counted."""
        return self._clock.now_unix_ns()

    async def _change(self, action: Callable[[RunTransaction], T]) -> T:
        result = await self._runs.transact(action)
        self._outbox.wake()
        return result

    def _wake(self) -> None:
        self._outbox.wake()
        if self._purger is not None:
            self._purger.wake()
