"""Every adapter of a port under the port's suite: memory and chDB always, ClickHouse over HTTP through a front."""

from __future__ import annotations

import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from tests.contract.point_store import PointStore, PointStoreSuite


class ClickHousePoints(ClickHousePointWriter, ClickHousePointReader):
    """Both sides over one ClickHouse."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        ClickHousePointWriter.__init__(self, clickhouse, clock=SystemClock())
        ClickHousePointReader.__init__(self, clickhouse)


class TestMemoryPoints(PointStoreSuite):
    """The reference."""

    @pytest.fixture
    def store(self) -> PointStore:
        return MemoryPoints()


class TestEmbeddedClickHousePoints(PointStoreSuite):
    """chDB in this process."""

    @pytest.fixture
    def store(self, clickhouse: ClickHouse) -> PointStore:
        return ClickHousePoints(clickhouse)
