"""Promises of the store of runs: transactions over entities, projects, runs, attempts, writers, events and the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

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
from runyard_server.domain.run import LiveRun, RunDocument, RunKey
from runyard_server.domain.writers import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProjectPosition:
    """Where a list of projects continues: after this one, in the order of the list."""

    activity_time_unix_ns: int
    entity: str
    name: str


class RunTransaction(Protocol):
    """What an action may read and write; all of it happens, or nothing.

    Reads see the writes of the same transaction. The methods are synchronous and only valid inside the action.
    """

    def find_project(self, entity: str, project: str) -> Project | None:
        """Returns the project, or None."""
        ...

    def insert_project(self, project: Project) -> None:
        """Adds the project, and its entity if that is new. The project MUST NOT exist."""
        ...

    def save_project(self, project: Project) -> None:
        """Replaces description and settings of a project that exists; its counts and times are not touched."""
        ...

    def draw_run_number(self, entity: str, project: str) -> int:
        """Returns the next number of a run in the project: 1, 2, 3 … No two committed transactions MUST get one number."""
        ...

    def change_project(
        self,
        entity: str,
        project: str,
        *,
        run_count_change: int = 0,
        live_run_count_change: int = 0,
        activity_time_unix_ns: int,
    ) -> None:
        """Adds to the project's counts and moves its activity time, never back."""
        ...

    def list_projects(
        self, *, entity: str, after: ProjectPosition | None, limit: int
    ) -> list[Project]:
        """Returns projects (of one entity, or of all if it is empty), latest activity first, then by (entity, name)."""
        ...

    def find_run(
        self, entity: str, project: str, run_id: str, *, will_change: bool
    ) -> RunDocument | None:
        """Returns the run of that path, deleted or not, or None.

        With `will_change` no other transaction MUST change the run until this one ends.
        """
        ...

    def find_run_by_key(self, run_key: RunKey, *, will_change: bool) -> RunDocument | None:
        """Returns the run of that key, deleted or not, or None. `will_change` as in find_run."""
        ...

    def insert_run(self, document: RunDocument) -> None:
        """Adds a run and puts it into the outbox. A path stays taken for ever, also when its run is deleted."""
        ...

    def save_run(self, document: RunDocument) -> None:
        """Replaces the document of a run, except for its key and path, and puts it into the outbox.

        Its version MUST be above the stored one.
        """
        ...

    def list_live_runs(self, *, after_key: RunKey | None, limit: int) -> list[LiveRun]:
        """Returns runs in a live state that are not deleted, by key, those above `after_key`."""
        ...

    def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        """Notes (run, Unix ns) of last signs of life; a time never goes back. MUST NOT touch or lock run documents."""
        ...

    def find_heartbeat(self, run_key: RunKey) -> int | None:
        """Returns when the run last gave a sign of life, as recorded, or None."""
        ...

    def find_writer(self, run_key: RunKey, writer: int) -> Writer | None:
        """Returns the writer of that number, or None."""
        ...

    def find_writer_by_request(self, request_id: str) -> Writer | None:
        """Returns the writer that this request made, in whatever run, or None."""
        ...

    def list_counted_writers(self, run_key: RunKey) -> list[Writer]:
        """Returns the writers that have a say in the run's state, by number."""
        ...

    def insert_writer(self, writer: Writer) -> None:
        """Adds a writer. (run, writer) and request_id MUST be new."""
        ...

    def save_writer(self, writer: Writer) -> None:
        """Replaces a writer."""
        ...

    def retire_writers(self, run_key: RunKey) -> None:
        """Makes all writers of the run uncounted."""
        ...

    def list_writers(self, run_key: RunKey, *, after_writer: int, limit: int) -> list[Writer]:
        """Returns writers of the run, counted or not, by number, those above `after_writer`."""
        ...

    def append_event(self, run_key: RunKey, event: RunEvent) -> int:
        """Adds an event behind the others of the run and returns its number; that of the event given is not read."""
        ...

    def list_events(
        self,
        run_key: RunKey,
        *,
        after_number: int,
        limit: int,
        kinds: frozenset[RunEventKind] | None = None,
    ) -> list[RunEvent]:
        """Returns events (of these kinds, if given), oldest first, those with a number above `after_number`.

        Numbers rise, not always by one.
        """
        ...

    def find_last_event(
        self, run_key: RunKey, kinds: frozenset[RunEventKind], *, writer: int
    ) -> RunEvent | None:
        """Returns the latest event of one of these kinds that is about that writer (0: the run as a whole), or None."""
        ...

    def save_attempt(self, run_key: RunKey, attempt: RunAttempt) -> None:
        """Adds an attempt, or replaces the one of that number."""
        ...

    def find_attempt(self, run_key: RunKey, attempt: int) -> RunAttempt | None:
        """Returns the attempt of that number, or None."""
        ...

    def list_attempts(self, run_key: RunKey) -> list[RunAttempt]:
        """Returns all attempts of the run, oldest first."""
        ...

    def insert_ancestors(self, run_key: RunKey, ancestors: Sequence[RunKey]) -> None:
        """Notes whose points a new fork reads as its own; each of them once."""
        ...

    def list_forks(self, ancestor_key: RunKey, *, limit: int) -> list[RunDocument]:
        """Returns runs that are not deleted and read points of that run as their own, by key."""
        ...

    def list_open_stops(self, *, after_key: RunKey | None, limit: int) -> list[RunDocument]:
        """Returns live runs that have a stop, by key, those above `after_key`."""
        ...

    def insert_purge(self, purge: Purge) -> None:
        """Adds the purge of a run that was deleted."""
        ...

    def save_purge(self, purge: Purge, *, lease_end_unix_ns: int | None = None) -> None:
        """Replaces step, times, receipt and trouble of a purge; its lease too, if that is given."""
        ...

    def remove_purge(self, run_key: RunKey) -> None:
        """Removes the purge of a run that was restored."""
        ...

    def find_purge(self, run_key: RunKey) -> Purge | None:
        """Returns the purge of the run, or None if it was never deleted, or restored."""
        ...

    def lease_purges(self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int) -> list[Purge]:
        """Returns purges that are due, not complete and not leased, earliest due first, and leases them."""
        ...

    def list_unswept_purges(self, *, deleted_before_unix_ns: int, limit: int) -> list[Purge]:
        """Returns complete purges of runs deleted before then that were not looked at again, in any order."""
        ...

    def list_purges(
        self,
        *,
        entity: str,
        project: str,
        is_with_purged: bool,
        before: tuple[int, RunKey] | None,
        limit: int,
    ) -> list[Purge]:
        """Returns purges of a project, an entity, or all, latest deletion first, then by key, descending.

        Those after (delete time, key) in that order.
        """
        ...

    def purge_run(self, run_key: RunKey) -> int:
        """Removes writers, events, attempts, heartbeat, ancestors, notifications and outbox entry of the run; returns their count."""
        ...

    def save_tombstone(self, document: RunDocument) -> None:
        """Replaces the document of a purged run without publishing it. Its version MUST be above the stored one."""
        ...

    def insert_notifications(self, notifications: Sequence[Notification]) -> None:
        """Adds notifications; their numbers are not read."""
        ...

    def count_notifications(
        self, run_key: RunKey, *, since_unix_ns: int, title: str | None = None
    ) -> int:
        """Returns how many of the run were made since then (of that title, if given), suppressed ones left out."""
        ...

    def lease_notifications(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int
    ) -> list[Notification]:
        """Returns pending notifications that are due and that nobody has leased, earliest due first, and leases them.

        Until `lease_end_unix_ns` no other call MUST return them.
        """
        ...

    def report_notification(self, report: NotificationReport) -> None:
        """Notes what a try gave, counts it, and ends the lease. One that is not pending any more is passed over."""
        ...

    def list_notifications(
        self,
        entity: str,
        project: str,
        *,
        states: frozenset[NotificationState],
        before_number: int | None,
        limit: int,
    ) -> list[Notification]:
        """Returns notifications of a project (in these states, if any), newest first, those below `before_number`."""
        ...

    def find_event(self, number: int) -> RunEvent | None:
        """Returns the event of that number, of whatever run, or None."""
        ...

    def renew_replica(self, replica: MonitorReplica, *, lease_end_unix_ns: int) -> None:
        """Adds a replica of the monitor, or moves the end of its lease."""
        ...

    def remove_replica(self, replica_id: str) -> None:
        """Removes a replica; none is no error."""
        ...

    def list_replicas(self, *, now_unix_ns: int, end_unix_ns: int) -> list[MonitorReplica]:
        """Returns the replicas whose lease ends after now and by `end_unix_ns`, by id, and forgets the others."""
        ...

    def list_outbox(self, *, limit: int, bytes_max: int) -> list[RunDocument]:
        """Returns documents that wait to be published, longest waiting first, each run once with its newest version.

        Stops before the one whose config would pass `bytes_max` in sum, but returns at least one if any waits.
        """
        ...

    def clear_outbox(self, published: Sequence[tuple[RunKey, int]]) -> None:
        """Takes (run, version) out of the outbox. A run that has a newer version by now MUST stay in it."""
        ...

    def count_outbox(self) -> int:
        """Returns how many runs wait to be published."""
        ...


class RunStore(Protocol):
    """The transactional home of run documents. Raises Unavailable if the store does not answer in time."""

    async def transact(self, action: Callable[[RunTransaction], T]) -> T:
        """Returns what the action returns, once all that it wrote is durable.

        If the action raises, nothing of it MUST be kept. It may be run again from the start when another transaction
        came between, so it MUST have no other effects; it runs on a thread of the store and must not block for long.
        Transactions MUST be serializable as far as runs read with `will_change`, request ids and run numbers go.
        """
        ...
