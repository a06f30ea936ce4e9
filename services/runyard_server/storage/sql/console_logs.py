"""The ConsoleLogStore over SQL; statements are the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from runyard_server.domain.console import PrintedRun
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.console_logs import ConsoleLog
from runyard_server.storage.sql.database import Database
from runyard_server.storage.sql.schema import console_logs as logs


class SqlConsoleLogs:
    """Keeps logs in a SQL database; see the port ConsoleLogStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_seen_block(self) -> int:
        """Returns the latest block seen of any run."""
        statement = select(func.coalesce(func.max(logs.c.seen_block), 0))
        return await self._database.transact(lambda c: int(c.execute(statement).scalar_one()))

    async def note_printed(self, runs: Sequence[PrintedRun], *, now_unix_ns: int) -> None:
        """Notes later blocks; a log that was archived whole is due at once then."""
        # In one order, so that two calls cannot wait for each other.
        ordered = sorted(runs, key=lambda one: one.run_key)

        def note(connection: Connection) -> None:
            for run in ordered:
                _note(connection, run, now_unix_ns)

        await self._database.transact(note)

    async def take_unarchived(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int
    ) -> list[ConsoleLog]:
        """Takes logs that are due and have lines that no archive has."""
        wanted = logs.c.archived_block < logs.c.seen_block
        return await self._database.transact(
            lambda c: _take(c, wanted, now_unix_ns, lease_end_unix_ns, limit)
        )

    async def take_droppable(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, ended_before_unix_ns: int, limit: int
    ) -> list[ConsoleLog]:
        """Takes logs whose lines may be dropped."""
        wanted = and_(
            logs.c.dropped_block < logs.c.archived_block,
            logs.c.archived_block == logs.c.seen_block,
            logs.c.end_time_unix_ns < ended_before_unix_ns,
        )
        return await self._database.transact(
            lambda c: _take(c, wanted, now_unix_ns, lease_end_unix_ns, limit)
        )

    async def set_due(self, run_key: RunKey, due_time_unix_ns: int) -> None:
        """Has a log looked at again at that time."""
        await self._set(run_key, due_time_unix_ns=due_time_unix_ns)

    async def set_archived(
        self, run_key: RunKey, block: int, *, end_time_unix_ns: int, due_time_unix_ns: int
    ) -> None:
        """Notes that all lines up to that block are in the archives."""
        await self._set(
            run_key,
            archived_block=block,
            end_time_unix_ns=end_time_unix_ns,
            due_time_unix_ns=due_time_unix_ns,
        )

    async def set_dropped(self, run_key: RunKey, block: int) -> None:
        """Notes that lines up to that block are in the archives only."""
        await self._set(run_key, dropped_block=block)

    async def set_unarchived(self, run_key: RunKey, due_time_unix_ns: int) -> None:
        """Notes that an archive turned out to lack lines."""
        await self._set(run_key, archived_block=0, due_time_unix_ns=due_time_unix_ns)

    async def forget(self, run_key: RunKey) -> None:
        """Removes what is known of a run."""
        statement = delete(logs).where(logs.c.run_key == run_key)
        await self._database.transact(lambda c: c.execute(statement))

    async def _set(self, run_key: RunKey, **values: int) -> None:
        statement = update(logs).where(logs.c.run_key == run_key).values(**values)
        await self._database.transact(lambda c: c.execute(statement))


def _note(connection: Connection, run: PrintedRun, now_unix_ns: int) -> None:
    own = logs.c.run_key == run.run_key
    known = connection.execute(select(logs.c.seen_block).where(own)).first()
    if known is None:
        connection.execute(
            insert(logs).values(
                run_key=run.run_key,
                seen_block=run.last_block,
                archived_block=0,
                dropped_block=0,
                end_time_unix_ns=0,
                due_time_unix_ns=now_unix_ns,
            )
        )
    elif known.seen_block < run.last_block:
        is_whole = logs.c.archived_block >= logs.c.seen_block
        connection.execute(
            update(logs)
            .where(own, logs.c.seen_block < run.last_block)
            .values(
                seen_block=run.last_block,
                due_time_unix_ns=case((is_whole, now_unix_ns), else_=logs.c.due_time_unix_ns),
            )
        )


def _take(
    connection: Connection,
    wanted: ColumnElement[bool],
    now_unix_ns: int,
    lease_end_unix_ns: int,
    limit: int,
) -> list[ConsoleLog]:
    statement = (
        select(logs)
        .where(wanted, logs.c.due_time_unix_ns <= now_unix_ns)
        .order_by(logs.c.due_time_unix_ns, logs.c.run_key)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = [_log(row) for row in connection.execute(statement)]
    if taken:
        keys = [one.run_key for one in taken]
        connection.execute(
            update(logs).where(logs.c.run_key.in_(keys)).values(due_time_unix_ns=lease_end_unix_ns)
        )
    return taken


def _log(row: Row[Any]) -> ConsoleLog:
    return ConsoleLog(
        run_key=RunKey(row.run_key),
        seen_block=row.seen_block,
        archived_block=row.archived_block,
        dropped_block=row.dropped_block,
        end_time_unix_ns=row.end_time_unix_ns,
    )
