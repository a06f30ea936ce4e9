"""ConsoleLogStore: memory, SQLite and PostgreSQL keep the same promises. Each case cites the sentence of the port it checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runyard_server.domain.console import PrintedRun
from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.console_logs import MemoryConsoleLogs
from runyard_server.storage.ports.console_logs import ConsoleLog, ConsoleLogStore
from runyard_server.storage.sql.console_logs import SqlConsoleLogs
from tests.contract.databases import DATABASES, open_database

RUN, OTHER = RunKey(2**63 + 1), RunKey(7)
NOW = 1_000


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ConsoleLogStore]:
    async with open_database(request, tmp_path) as database:
        yield MemoryConsoleLogs() if database is None else SqlConsoleLogs(database)


async def note(store: ConsoleLogStore, *runs: tuple[RunKey, int], now: int = NOW) -> None:
    await store.note_printed([PrintedRun(*run) for run in runs], now_unix_ns=now)


async def unarchived(
    store: ConsoleLogStore, *, now: int = NOW, lease: int = NOW + 50, limit: int = 10
) -> list[ConsoleLog]:
    return await store.take_unarchived(now_unix_ns=now, lease_end_unix_ns=lease, limit=limit)


async def droppable(
    store: ConsoleLogStore, *, before: int = 500, now: int = NOW
) -> list[ConsoleLog]:
    return await store.take_droppable(
        now_unix_ns=now, lease_end_unix_ns=now + 50, ended_before_unix_ns=before, limit=10
    )


async def test_what_is_taken_is_left_alone_until_the_lease_ends(store: ConsoleLogStore) -> None:
    """What is taken is left alone by others until the lease ends; a later time than now renews a lease."""
    assert await store.last_seen_block() == 0
    await note(store, (RUN, 100), (OTHER, 90))
    assert await store.last_seen_block() == 100
    taken = await unarchived(store)
    assert sorted(taken, key=lambda one: one.seen_block) == [
        ConsoleLog(OTHER, 90),
        ConsoleLog(RUN, 100),
    ]
    assert await unarchived(store) == []
    await store.set_due(RUN, NOW + 500)
    assert [one.run_key for one in await unarchived(store, now=NOW + 60)] == [OTHER]


async def test_later_blocks_make_an_archive_incomplete(store: ConsoleLogStore) -> None:
    """Notes later blocks; a log that was archived whole is due at once then. Safe to repeat."""
    await note(store, (RUN, 100))
    await unarchived(store)
    await store.set_archived(RUN, 100, end_time_unix_ns=400, due_time_unix_ns=NOW + 9_999)
    await note(store, (RUN, 100), (RUN, 50))
    assert await unarchived(store, now=NOW + 99_999) == []
    await note(store, (RUN, 120), now=NOW + 1)
    assert await unarchived(store, now=NOW + 1) == [ConsoleLog(RUN, 120, 100, 0, 400)]
    # It is being made again: further lines do not take it from whom it is with.
    await note(store, (RUN, 130), now=NOW + 2)
    assert await unarchived(store, now=NOW + 2) == []


async def test_lines_are_dropped_once_and_whole_logs_only(store: ConsoleLogStore) -> None:
    """Takes logs of runs that ended before that time, are archived whole, and have lines that may be dropped."""
    await note(store, (RUN, 100), (OTHER, 90))
    assert await droppable(store) == []
    await store.set_archived(RUN, 100, end_time_unix_ns=400, due_time_unix_ns=NOW)
    assert await droppable(store, before=400) == []
    assert await droppable(store) == [ConsoleLog(RUN, 100, 100, 0, 400)]
    assert await droppable(store) == []
    await store.set_dropped(RUN, 100)
    assert await droppable(store, now=NOW + 99) == []
    await note(store, (RUN, 110), now=NOW)
    assert await droppable(store, now=NOW + 99) == []
    await store.set_archived(RUN, 110, end_time_unix_ns=450, due_time_unix_ns=NOW)
    assert await droppable(store) == [ConsoleLog(RUN, 110, 110, 100, 450)]
    await store.set_unarchived(RUN, NOW)
    assert ConsoleLog(RUN, 110, 0, 100, 450) in await unarchived(store)


async def test_what_is_forgotten_is_gone(store: ConsoleLogStore) -> None:
    """Removes what is known of a run. Safe to repeat."""
    await note(store, (RUN, 100))
    await store.forget(RUN)
    await store.forget(RUN)
    await store.set_due(RUN, 5)
    assert await unarchived(store) == []
    assert await store.last_seen_block() == 0


async def test_several_take_each_log_once(store: ConsoleLogStore) -> None:
    """What is taken is left alone by others, also where several note and take at the same time."""
    runs = [(RunKey(number), 100 + number) for number in range(40)]
    await asyncio.gather(*(note(store, *runs) for _ in range(4)))
    taken = await asyncio.gather(*(unarchived(store, limit=20) for _ in range(4)))
    keys = [one.run_key for some in taken for one in some]
    assert len(keys) == len(set(keys))
    rest = await unarchived(store, limit=100)
    assert len(keys) + len(rest) == 40
