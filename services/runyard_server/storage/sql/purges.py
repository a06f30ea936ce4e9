"""Deleted runs and their purges over SQL: a part of the transaction of sql/run_store.py."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, and_, delete, insert, or_, select, text, update

from runyard_server.domain.purges import Purge, PurgeStep, StoreFreed
from runyard_server.domain.run import RunDocument, RunKey, RunState, split_run_path
from runyard_server.storage.sql import run_rows
from runyard_server.storage.sql.notifications import NotificationTables
from runyard_server.storage.sql.schema import (
    OPEN_PURGES_SQL,
    attempts,
    events,
    heartbeats,
    notifications,
    outbox,
    purges,
    run_ancestors,
    runs,
    writers,
)


class PurgeTables(NotificationTables):
    """The methods of RunTransaction on purges."""

    def insert_purge(self, purge: Purge) -> None:
        self._connection.execute(insert(purges), {**_values(purge), "lease_end_unix_ns": 0})

    def save_purge(self, purge: Purge, *, lease_end_unix_ns: int | None = None) -> None:
        values = _values(purge)
        if lease_end_unix_ns is not None:
            values["lease_end_unix_ns"] = lease_end_unix_ns
        statement = update(purges).where(purges.c.run_key == purge.run_key).values(values)
        assert self._connection.execute(statement).rowcount == 1, f"{purge.path} has no purge"

    def remove_purge(self, run_key: RunKey) -> None:
        self._connection.execute(delete(purges).where(purges.c.run_key == run_key))

    def find_purge(self, run_key: RunKey) -> Purge | None:
        row = self._connection.execute(select(purges).where(purges.c.run_key == run_key)).first()
        return _purge(row) if row else None

    def lease_purges(self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int) -> list[Purge]:
        statement = (
            select(purges)
            .where(
                text(OPEN_PURGES_SQL),
                purges.c.due_time_unix_ns <= now_unix_ns,
                purges.c.lease_end_unix_ns <= now_unix_ns,
            )
            .order_by(purges.c.due_time_unix_ns, purges.c.run_key)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = [_purge(row) for row in self._connection.execute(statement)]
        if found:
            self._connection.execute(
                update(purges)
                .where(purges.c.run_key.in_([purge.run_key for purge in found]))
                .values(lease_end_unix_ns=lease_end_unix_ns)
            )
        return found

    def list_unswept_purges(self, *, deleted_before_unix_ns: int, limit: int) -> list[Purge]:
        statement = (
            select(purges)
            .where(
                purges.c.step == PurgeStep.PURGED.value,
                purges.c.delete_time_unix_ns < deleted_before_unix_ns,
            )
            .limit(limit)
        )
        return [_purge(row) for row in self._connection.execute(statement)]

    def list_purges(
        self,
        *,
        entity: str,
        project: str,
        is_with_purged: bool,
        before: tuple[int, RunKey] | None,
        limit: int,
    ) -> list[Purge]:
        time, key = purges.c.delete_time_unix_ns, purges.c.run_key
        statement = select(purges).order_by(time.desc(), key.desc()).limit(limit)
        if entity:
            statement = statement.where(purges.c.entity == entity)
        if project:
            statement = statement.where(purges.c.project == project)
        if not is_with_purged:
            statement = statement.where(text(OPEN_PURGES_SQL))
        if before is not None:
            statement = statement.where(
                or_(time < before[0], and_(time == before[0], key < before[1]))
            )
        return [_purge(row) for row in self._connection.execute(statement)]

    def purge_run(self, run_key: RunKey) -> int:
        tables = (
            outbox,
            writers,
            events,
            attempts,
            heartbeats,
            run_ancestors,
            notifications,
        )
        return sum(
            self._connection.execute(delete(table).where(table.c.run_key == run_key)).rowcount
            for table in tables
        )

    def save_tombstone(self, document: RunDocument) -> None:
        values = run_rows.run_values(document)
        for name in ("run_key", "entity", "project", "run_id"):
            del values[name]
        where = and_(runs.c.run_key == document.run_key, runs.c.version < document.version)
        changed = self._connection.execute(update(runs).where(where).values(values))
        assert changed.rowcount == 1, f"run {document.path} is not below version {document.version}"


def _values(purge: Purge) -> dict[str, Any]:
    entity, project, run_id = split_run_path(purge.path)
    stores = [asdict(store) for store in purge.stores]
    return {
        "run_key": purge.run_key,
        "entity": entity,
        "project": project,
        "run_id": run_id,
        "display_name": purge.display_name,
        "state": purge.state.value,
        "deleted_by": purge.deleted_by,
        "delete_time_unix_ns": purge.delete_time_unix_ns,
        "due_time_unix_ns": purge.due_time_unix_ns,
        "step": purge.step.value,
        "purge_time_unix_ns": purge.purge_time_unix_ns,
        "stores_json": json.dumps(stores, separators=(",", ":")),
        "trouble": purge.trouble,
    }


def _purge(row: Row[Any]) -> Purge:
    return Purge(
        run_key=RunKey(row.run_key),
        path=f"{row.entity}/{row.project}/{row.run_id}",
        display_name=row.display_name,
        state=RunState(row.state),
        deleted_by=row.deleted_by,
        delete_time_unix_ns=row.delete_time_unix_ns,
        due_time_unix_ns=row.due_time_unix_ns,
        step=PurgeStep(row.step),
        purge_time_unix_ns=row.purge_time_unix_ns,
        stores=tuple(StoreFreed(**store) for store in json.loads(row.stores_json)),
        trouble=row.trouble,
    )
