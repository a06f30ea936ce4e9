"""Every index of runs under the suite: memory and chDB always."""

from __future__ import annotations

import itertools

import pytest

from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.runs import ClickHouseRunIndex
from runyard_server.storage.memory.runs import MemoryRunIndex
from runyard_server.storage.ports.runs import RunIndex
from tests.contract.run_index import RunIndexSuite

_numbers = itertools.count()


@pytest.fixture
def project() -> str:
    return f"project-{next(_numbers)}"


class TestMemoryRunIndex(RunIndexSuite):
    """The reference."""

    @pytest.fixture
    def index(self) -> RunIndex:
        return MemoryRunIndex()


class TestEmbeddedClickHouseRunIndex(RunIndexSuite):
    """chDB in this process."""

    @pytest.fixture
    def index(self, clickhouse: ClickHouse) -> RunIndex:
        return ClickHouseRunIndex(clickhouse)
