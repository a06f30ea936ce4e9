"""Notifications and replicas of the monitor over SQL: a part of the transaction of sql/run_store.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.events import RunEvent
from runyard_server.domain.notifications import (
    Notification,
    NotificationReport,
    NotificationState,
)
from runyard_server.domain.run import RunKey
from runyard_server.storage.sql import run_rows
from runyard_server.storage.sql.schema import events, monitor_replicas, notifications

_ERROR_LENGTH_MAX = 1024


class NotificationTables:
    """The methods of RunTransaction on notifications and replicas."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert_notifications(self, made: Sequence[Notification]) -> None:
        if made:
            rows = [run_rows.notification_values(one) for one in made]
            self._connection.execute(insert(notifications), rows)

    def count_notifications(
        self, run_key: RunKey, *, since_unix_ns: int, title: str | None = None
    ) -> int:
        statement = (
            select(func.count())
            .select_from(notifications)
            .where(
                notifications.c.run_key == run_key,
                notifications.c.create_time_unix_ns >= since_unix_ns,
                notifications.c.state != NotificationState.SUPPRESSED.value,
            )
        )
        if title is not None:
            statement = statement.where(notifications.c.title == title)
        return int(self._connection.execute(statement).scalar_one())

    def lease_notifications(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int
    ) -> list[Notification]:
        # SQLite renders no FOR UPDATE: its transactions hold the write lock from the start.
        statement = (
            select(notifications)
            .where(
                notifications.c.state == NotificationState.PENDING.value,
                notifications.c.next_try_time_unix_ns <= now_unix_ns,
                notifications.c.lease_end_unix_ns <= now_unix_ns,
            )
            .order_by(notifications.c.next_try_time_unix_ns, notifications.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = [run_rows.notification_of(row) for row in self._connection.execute(statement)]
        if found:
            self._connection.execute(
                update(notifications)
                .where(notifications.c.number.in_([one.number for one in found]))
                .values(lease_end_unix_ns=lease_end_unix_ns)
            )
        return found

    def report_notification(self, report: NotificationReport) -> None:
        where = and_(
            notifications.c.number == report.number,
            notifications.c.state == NotificationState.PENDING.value,
        )
        self._connection.execute(
            update(notifications)
            .where(where)
            .values(
                state=report.state.value,
                try_count=notifications.c.try_count + 1,
                last_error=report.error[:_ERROR_LENGTH_MAX],
                next_try_time_unix_ns=report.next_try_time_unix_ns,
                lease_end_unix_ns=0,
            )
        )

    def list_notifications(
        self,
        entity: str,
        project: str,
        *,
        states: frozenset[NotificationState],
        before_number: int | None,
        limit: int,
    ) -> list[Notification]:
        statement = (
            select(notifications)
            .where(notifications.c.entity == entity, notifications.c.project == project)
            .order_by(notifications.c.number.desc())
            .limit(limit)
        )
        if states:
            values = sorted(state.value for state in states)
            statement = statement.where(notifications.c.state.in_(values))
        if before_number is not None:
            statement = statement.where(notifications.c.number < before_number)
        return [run_rows.notification_of(row) for row in self._connection.execute(statement)]

    def find_event(self, number: int) -> RunEvent | None:
        row = self._connection.execute(select(events).where(events.c.number == number)).first()
        return run_rows.event_of(row) if row else None

    def renew_replica(self, replica: MonitorReplica, *, lease_end_unix_ns: int) -> None:
        changes = {"address": replica.address, "lease_end_unix_ns": lease_end_unix_ns}
        statement = self._upsert(monitor_replicas).values(replica_id=replica.replica_id, **changes)
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[monitor_replicas.c.replica_id], set_=changes
            )
        )

    def remove_replica(self, replica_id: str) -> None:
        where = monitor_replicas.c.replica_id == replica_id
        self._connection.execute(delete(monitor_replicas).where(where))

    def list_replicas(self, *, now_unix_ns: int, end_unix_ns: int) -> list[MonitorReplica]:
        end = monitor_replicas.c.lease_end_unix_ns
        where = (end <= now_unix_ns) | (end > end_unix_ns)
        self._connection.execute(delete(monitor_replicas).where(where))
        statement = select(monitor_replicas).order_by(monitor_replicas.c.replica_id)
        return [
            MonitorReplica(row.replica_id, row.address)
            for row in self._connection.execute(statement)
        ]

    @property
    def _is_sqlite(self) -> bool:
        return self._connection.dialect.name == "sqlite"

    def _upsert(self, table: Any) -> Any:
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)
