"""Stores of lines under their suite: memory, chDB in this process, and both with all lines, or some, moved into archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.clickhouse.console_hot import (
    ClickHouseConsoleDropper,
    ClickHouseHotConsole,
)
from runyard_server.storage.clickhouse.console_read import ClickHouseConsoleReader
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.console import ConsoleDropper
from runyard_server.storage.ports.points import BlockEntry
from tests.contract.archives import MemoryArchives, archive_and_drop
from tests.contract.console_store import (
    ConsoleStore,
    ConsoleStoreSuite,
    changes,
    insert,
    printed,
    read,
    see,
)
from tests.stores import new_run_key


class TestMemoryConsole(ConsoleStoreSuite):
    """The reference."""

    @pytest.fixture
    def store(self) -> ConsoleStore:
        points = MemoryPoints()
        return ConsoleStore(points, points, points.console)


class TestEmbeddedClickHouseConsole(ConsoleStoreSuite):
    """chDB in this process."""

    @pytest.fixture
    def store(self, clickhouse: ClickHouse) -> ConsoleStore:
        return ConsoleStore(
            ClickHousePointWriter(clickhouse, clock=SystemClock()),
            ClickHousePointReader(clickhouse),
            ClickHouseConsoleReader(clickhouse),
        )


class _Archiving:
    """A PointWriter that moves lines into archives after every block, or after every second one."""

    def __init__(
        self, store: ConsoleStore, archives: MemoryArchives, dropper: ConsoleDropper, every: int
    ) -> None:
        self.store = store
        self._archives = archives
        self._dropper = dropper
        self._every = every
        self._count = 0

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        await self.store.writer.insert_block(entries)
        self._count += 1
        if self._count % self._every == 0:
            for run_key in {entry.batch.run_key for entry in entries}:
                await archive_and_drop(self.store.console, self._archives, self._dropper, run_key)


@pytest.mark.parametrize("every", [1, 2])
class TestArchivedConsole(ConsoleStoreSuite):
    """Archives, with the latest lines beside them or not."""

    @pytest.fixture
    def store(self, clickhouse: ClickHouse, tmp_path: Path, every: int) -> ConsoleStore:
        archives = MemoryArchives(tmp_path)
        plain = ConsoleStore(
            ClickHousePointWriter(clickhouse, clock=SystemClock()),
            ClickHousePointReader(clickhouse),
            LayeredConsole(ClickHouseHotConsole(clickhouse), archives),
        )
        writer = _Archiving(plain, archives, ClickHouseConsoleDropper(clickhouse), every)
        return ConsoleStore(writer, plain.points, plain.console)

    async def test_what_changed_is_told(self, store: ConsoleStore) -> None:
        """Changes of lines that may be in an archive are not told one by one, only that there are some."""
        run = new_run_key()
        await insert(store, printed(run, (1, "start\n10%")))
        seen = await see(store, run)
        await insert(store, printed(run, (2, "20%"), (3, "next"), sequence=5, ms=9))
        rows = await changes(store, run, seen)
        assert (rows.texts, rows.has_more) == ([], True)

    async def test_nothing_is_told_twice(self, store: ConsoleStore) -> None:
        """What a new writer prints into a run whose lines are archived is told as ever."""
        run = new_run_key()
        for sequence in (1, 2):
            text = "a" * sequence
            await insert(store, printed(run, (sequence, text), sequence=sequence))
        for sequence in (1, 2, 3):
            await store.writer.store.writer.insert_block(  # type: ignore[attr-defined]  # is _Archiving
                [BlockEntry(printed(run, (sequence, "b"), writer=9, sequence=sequence))]
            )
            seen = await see(store, run)
            if sequence == 2:
                earlier = seen
        rows = await changes(store, run, earlier)
        assert (rows.writers, rows.lines, rows.has_more) == ([9], [3], False)
        assert (await changes(store, run, seen)).texts == []
        assert sorted((await read(store, run)).texts) == ["a", "aa", "b", "b", "b"]
