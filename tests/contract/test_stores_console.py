"""Stores of lines under their suite: memory, and chDB in this process."""

from __future__ import annotations

import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.storage.clickhouse.console_read import ClickHouseConsoleReader
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from tests.contract.console_store import ConsoleStore, ConsoleStoreSuite


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
