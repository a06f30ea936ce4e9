"""The reference of RunStore: dictionaries; what the other adapters are compared with, and what the simulation runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from runyard_server.domain.attempts import RunAttempt
from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.notifications import (
    Notification,
    NotificationReport,
    NotificationState,
)
from runyard_server.domain.projects import Project
from runyard_server.domain.purges import Purge
from runyard_server.domain.run import LIVE_STATES, LiveRun, RunDocument, RunKey
from runyard_server.domain.writers import Writer
from runyard_server.storage.memory.purges import PurgeTables
from runyard_server.storage.ports.run_store import (
    ProjectPosition,
    RunTransaction,
)

T = TypeVar("T")


class MemoryRunStore:
    """Keeps runs in memory; an action runs at once, on the caller's thread."""

    def __init__(self) -> None:
        self._tables = _Tables()

    async def transact(self, action: Callable[[RunTransaction], T]) -> T:
        """Returns what the action returns; keeps nothing if it raises."""
        draft = self._tables.copy()
        result = action(_Transaction(draft))
        self._tables = draft
        return result


@dataclass(slots=True)
class _Tables:
    projects: dict[tuple[str, str], Project] = field(default_factory=dict)
    run_numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    runs: dict[RunKey, RunDocument] = field(default_factory=dict)
    paths: dict[tuple[str, str, str], RunKey] = field(default_factory=dict)
    writers: dict[tuple[RunKey, int], Writer] = field(default_factory=dict)
    requests: dict[str, tuple[RunKey, int]] = field(default_factory=dict)
    events: dict[int, tuple[RunKey, RunEvent]] = field(default_factory=dict)
    attempts: dict[tuple[RunKey, int], RunAttempt] = field(default_factory=dict)
    ancestors: dict[RunKey, tuple[RunKey, ...]] = field(default_factory=dict)
    outbox: dict[RunKey, int] = field(default_factory=dict)
    notifications: dict[int, tuple[Notification, int]] = field(default_factory=dict)
    replicas: dict[str, tuple[MonitorReplica, int]] = field(default_factory=dict)
    purges: dict[RunKey, tuple[Purge, int]] = field(default_factory=dict)
    heartbeats: dict[RunKey, int] = field(default_factory=dict)

    def copy(self) -> _Tables:
        return _Tables(*(dict(getattr(self, table.name)) for table in fields(self)))


class _Transaction(PurgeTables):
    """One transaction over a draft; see the port RunTransaction."""

    _tables: _Tables

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    def find_project(self, entity: str, project: str) -> Project | None:
        return self._tables.projects.get((entity, project))

    def insert_project(self, project: Project) -> None:
        key = (project.entity, project.name)
        assert key not in self._tables.projects, f"project {project.path} exists"
        self._tables.projects[key] = project
        self._tables.run_numbers[key] = 0

    def save_project(self, project: Project) -> None:
        old = self._tables.projects[project.entity, project.name]
        self._tables.projects[project.entity, project.name] = replace(
            old, description=project.description, settings=project.settings
        )

    def draw_run_number(self, entity: str, project: str) -> int:
        self._tables.run_numbers[entity, project] += 1
        return self._tables.run_numbers[entity, project]

    def change_project(
        self,
        entity: str,
        project: str,
        *,
        run_count_change: int = 0,
        live_run_count_change: int = 0,
        activity_time_unix_ns: int,
    ) -> None:
        old = self._tables.projects[entity, project]
        self._tables.projects[entity, project] = replace(
            old,
            run_count=old.run_count + run_count_change,
            live_run_count=old.live_run_count + live_run_count_change,
            activity_time_unix_ns=max(old.activity_time_unix_ns, activity_time_unix_ns),
        )

    def list_projects(
        self, *, entity: str, after: ProjectPosition | None, limit: int
    ) -> list[Project]:
        found = sorted(
            (p for p in self._tables.projects.values() if not entity or p.entity == entity),
            key=_project_order,
        )
        if after is not None:
            last = (-after.activity_time_unix_ns, after.entity.encode(), after.name.encode())
            found = [project for project in found if _project_order(project) > last]
        return found[:limit]

    def find_run(
        self, entity: str, project: str, run_id: str, *, will_change: bool
    ) -> RunDocument | None:
        run_key = self._tables.paths.get((entity, project, run_id))
        return None if run_key is None else self._tables.runs[run_key]

    def find_run_by_key(self, run_key: RunKey, *, will_change: bool) -> RunDocument | None:
        return self._tables.runs.get(run_key)

    def insert_run(self, document: RunDocument) -> None:
        path = (document.entity, document.project, document.run_id)
        assert path not in self._tables.paths, f"run {document.path} exists"
        assert document.run_key not in self._tables.runs, f"run key {document.run_key} is taken"
        assert path[:2] in self._tables.projects, f"no project {path[0]}/{path[1]}"
        self._tables.paths[path] = document.run_key
        self._tables.runs[document.run_key] = document
        self._put_into_outbox(document)

    def save_run(self, document: RunDocument) -> None:
        old = self._tables.runs[document.run_key]
        assert old.path == document.path, "a run keeps its path"
        assert old.version < document.version, (
            f"run {document.path} is not below version {document.version}"
        )
        self._tables.runs[document.run_key] = document
        self._put_into_outbox(document)

    def list_live_runs(self, *, after_key: RunKey | None, limit: int) -> list[LiveRun]:
        live = sorted(
            run.run_key
            for run in self._tables.runs.values()
            if run.state in LIVE_STATES
            and not run.is_deleted
            and (after_key is None or run.run_key > after_key)
        )
        return [self._live_run(self._tables.runs[run_key]) for run_key in live[:limit]]

    def _live_run(self, run: RunDocument) -> LiveRun:
        settings = self._tables.projects[run.entity, run.project].settings
        return LiveRun(
            run_key=run.run_key,
            path=run.path,
            state=run.state,
            attempt_count=run.attempt_count,
            crash_timeout_s=settings.crash_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
            straggler_steps=settings.straggler_steps,
            stalled_since_unix_ns=run.stalled_since_unix_ns,
        )

    def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        for run_key, time_unix_ns in heartbeats:
            last = self._tables.heartbeats.get(run_key, time_unix_ns)
            self._tables.heartbeats[run_key] = max(last, time_unix_ns)

    def find_heartbeat(self, run_key: RunKey) -> int | None:
        return self._tables.heartbeats.get(run_key)

    def find_writer(self, run_key: RunKey, writer: int) -> Writer | None:
        return self._tables.writers.get((run_key, writer))

    def find_writer_by_request(self, request_id: str) -> Writer | None:
        key = self._tables.requests.get(request_id)
        return None if key is None else self._tables.writers[key]

    def list_counted_writers(self, run_key: RunKey) -> list[Writer]:
        found = [w for w in self._tables.writers.values() if w.run_key == run_key and w.is_counted]
        return sorted(found, key=lambda writer: writer.writer)

    def insert_writer(self, writer: Writer) -> None:
        key = (writer.run_key, writer.writer)
        assert key not in self._tables.writers, f"run {key[0]} has a writer {key[1]}"
        assert writer.request_id not in self._tables.requests, "the request has a writer"
        self._tables.writers[key] = writer
        self._tables.requests[writer.request_id] = key

    def save_writer(self, writer: Writer) -> None:
        key = (writer.run_key, writer.writer)
        assert key in self._tables.writers, f"run {key[0]} has no writer {key[1]}"
        self._tables.writers[key] = writer

    def retire_writers(self, run_key: RunKey) -> None:
        for writer in self.list_counted_writers(run_key):
            self.save_writer(replace(writer, is_counted=False))

    def list_writers(self, run_key: RunKey, *, after_writer: int, limit: int) -> list[Writer]:
        found = [
            w
            for w in self._tables.writers.values()
            if w.run_key == run_key and w.writer > after_writer
        ]
        return sorted(found, key=lambda writer: writer.writer)[:limit]

    def append_event(self, run_key: RunKey, event: RunEvent) -> int:
        number = max(self._tables.events, default=0) + 1
        self._tables.events[number] = (run_key, replace(event, number=number))
        return number

    def list_events(
        self,
        run_key: RunKey,
        *,
        after_number: int,
        limit: int,
        kinds: frozenset[RunEventKind] | None = None,
    ) -> list[RunEvent]:
        found = [
            event
            for owner, event in self._tables.events.values()
            if owner == run_key
            and event.number > after_number
            and (kinds is None or event.kind in kinds)
        ]
        return found[:limit]

    def find_last_event(
        self, run_key: RunKey, kinds: frozenset[RunEventKind], *, writer: int
    ) -> RunEvent | None:
        found = self.list_events(run_key, after_number=0, limit=2**62, kinds=kinds)
        return next((event for event in reversed(found) if event.writer == writer), None)

    def save_attempt(self, run_key: RunKey, attempt: RunAttempt) -> None:
        self._tables.attempts[run_key, attempt.attempt] = attempt

    def find_attempt(self, run_key: RunKey, attempt: int) -> RunAttempt | None:
        return self._tables.attempts.get((run_key, attempt))

    def list_attempts(self, run_key: RunKey) -> list[RunAttempt]:
        found = [one for (owner, _), one in self._tables.attempts.items() if owner == run_key]
        return sorted(found, key=lambda attempt: attempt.attempt)

    def insert_ancestors(self, run_key: RunKey, ancestors: Sequence[RunKey]) -> None:
        self._tables.ancestors[run_key] = tuple(ancestors)

    def list_forks(self, ancestor_key: RunKey, *, limit: int) -> list[RunDocument]:
        keys = sorted(
            key for key, ancestors in self._tables.ancestors.items() if ancestor_key in ancestors
        )
        found = [self._tables.runs[key] for key in keys]
        return [document for document in found if not document.is_deleted][:limit]

    def list_open_stops(self, *, after_key: RunKey | None, limit: int) -> list[RunDocument]:
        found = sorted(
            (
                run
                for run in self._tables.runs.values()
                if run.stop is not None
                and run.state in LIVE_STATES
                and not run.is_deleted
                and (after_key is None or run.run_key > after_key)
            ),
            key=lambda run: run.run_key,
        )
        return found[:limit]

    def insert_notifications(self, notifications: Sequence[Notification]) -> None:
        for notification in notifications:
            number = max(self._tables.notifications, default=0) + 1
            self._tables.notifications[number] = (replace(notification, number=number), 0)

    def count_notifications(
        self, run_key: RunKey, *, since_unix_ns: int, title: str | None = None
    ) -> int:
        return sum(
            one.run_key == run_key
            and one.create_time_unix_ns >= since_unix_ns
            and one.state is not NotificationState.SUPPRESSED
            and title in (None, one.title)
            for one, _ in self._tables.notifications.values()
        )

    def lease_notifications(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int
    ) -> list[Notification]:
        due = [
            (one.next_try_time_unix_ns, one.number, one)
            for one, lease_end in self._tables.notifications.values()
            if one.state is NotificationState.PENDING
            and one.next_try_time_unix_ns is not None
            and one.next_try_time_unix_ns <= now_unix_ns
            and lease_end <= now_unix_ns
        ]
        found = [one for _, _, one in sorted(due, key=lambda entry: entry[:2])][:limit]
        for one in found:
            self._tables.notifications[one.number] = (one, lease_end_unix_ns)
        return found

    def report_notification(self, report: NotificationReport) -> None:
        one, _ = self._tables.notifications[report.number]
        if one.state is not NotificationState.PENDING:
            return
        changed = replace(
            one,
            state=report.state,
            try_count=one.try_count + 1,
            last_error=report.error[:1024],
            next_try_time_unix_ns=report.next_try_time_unix_ns,
        )
        self._tables.notifications[report.number] = (changed, 0)

    def list_notifications(
        self,
        entity: str,
        project: str,
        *,
        states: frozenset[NotificationState],
        before_number: int | None,
        limit: int,
    ) -> list[Notification]:
        found = [
            one
            for one, _ in self._tables.notifications.values()
            if (one.entity, one.project) == (entity, project)
            and (not states or one.state in states)
            and (before_number is None or one.number < before_number)
        ]
        return sorted(found, key=lambda one: -one.number)[:limit]

    def find_event(self, number: int) -> RunEvent | None:
        found = self._tables.events.get(number)
        return None if found is None else found[1]

    def renew_replica(self, replica: MonitorReplica, *, lease_end_unix_ns: int) -> None:
        self._tables.replicas[replica.replica_id] = (replica, lease_end_unix_ns)

    def remove_replica(self, replica_id: str) -> None:
        self._tables.replicas.pop(replica_id, None)

    def list_replicas(self, *, now_unix_ns: int, end_unix_ns: int) -> list[MonitorReplica]:
        living = {
            name: entry
            for name, entry in self._tables.replicas.items()
            if now_unix_ns < entry[1] <= end_unix_ns
        }
        self._tables.replicas = living
        return [living[name][0] for name in sorted(living)]

    def list_outbox(self, *, limit: int, bytes_max: int) -> list[RunDocument]:
        found: list[RunDocument] = []
        total_bytes = 0
        for run_key in list(self._tables.outbox)[:limit]:
            document = self._tables.runs[run_key]
            total_bytes += len(document.config_json)
            if found and total_bytes > bytes_max:
                break
            found.append(document)
        return found

    def clear_outbox(self, published: Sequence[tuple[RunKey, int]]) -> None:
        for run_key, version in published:
            if self._tables.outbox.get(run_key, version + 1) <= version:
                del self._tables.outbox[run_key]

    def count_outbox(self) -> int:
        return len(self._tables.outbox)

    def _put_into_outbox(self, document: RunDocument) -> None:
        self._tables.outbox[document.run_key] = document.version


def _project_order(project: Project) -> tuple[int, bytes, bytes]:
    return (-project.activity_time_unix_ns, project.entity.encode(), project.name.encode())
