"""Every adapter of a port under the port's suite: memory and chDB always, ClickHouse over HTTP through a front."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import Unavailable
from runyard_server.domain.run import Cut, HistoryPart
from runyard_server.storage.clickhouse.console_read import ClickHouseConsoleReader
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.points import BlockEntry, Scope
from tests.contract.console_store import ConsoleStore, ConsoleStoreSuite
from tests.contract.point_store import PointStore, PointStoreSuite
from tests.stores import batch, new_run_key

FRONT = Path(__file__).parents[1] / "integration" / "clickhouse_front.py"


class ClickHousePoints(ClickHousePointWriter, ClickHousePointReader):
    """Both sides over one ClickHouse."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        ClickHousePointWriter.__init__(self, clickhouse, clock=SystemClock())
        ClickHousePointReader.__init__(self, clickhouse)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """Clients of the front."""
    folder = tmp_path_factory.mktemp("front")
    front = subprocess.Popen(
        [sys.executable, FRONT, "--path", folder], stdout=subprocess.PIPE, text=True
    )
    try:
        assert front.stdout is not None
        word, port = front.stdout.readline().split()
        assert word == "ready"
        store = ClickHouse.open_server(f"http://127.0.0.1:{port}")
        asyncio.run(store.migrate())
        yield store
        asyncio.run(store.close())
    finally:
        front.terminate()
        front.wait(20)
        assert front.stdout is not None
        front.stdout.close()


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


class TestServerClickHousePoints(PointStoreSuite):
    """The HTTP client, against a small front over chDB in a process of its own: no ClickHouse server can be installed here."""

    @pytest.fixture
    def store(self, server: ClickHouse) -> PointStore:
        return ClickHousePoints(server)


class TestServerClickHouseConsole(ConsoleStoreSuite):
    """Lines, over the same HTTP client and front."""

    @pytest.fixture
    def store(self, server: ClickHouse) -> ConsoleStore:
        points = ClickHousePoints(server)
        return ConsoleStore(points, points, ClickHouseConsoleReader(server))


async def test_a_query_that_fails_spoils_no_other(clickhouse: ClickHouse) -> None:
    """What a query that failed halfway had already said is not put in front of the answer to the next one."""
    for number in range(12):  # more often than there are connections
        with pytest.raises(ClickHouseError):
            await clickhouse.query_arrow("SELECT match(materialize('a'), {m:String})", {"m": "("})
        for _ in range(3):
            table = await clickhouse.query_arrow(f"SELECT toUInt64({number}) AS n")
            assert table["n"].to_pylist() == [number]
        found = await clickhouse.query_np(f"SELECT toUInt64({number}) AS n")
        assert found.ravel().tolist() == [number]


async def test_a_block_that_the_engine_refuses_is_not_stored(clickhouse: ClickHouse) -> None:
    """What the engine refuses when it writes the part, as on a full disk, is told: nothing is acknowledged that is not there."""
    store = ClickHousePoints(clickhouse)
    run = new_run_key()
    for table in ("points", "receipts"):
        limit = f"ALTER TABLE {table} MODIFY SETTING min_free_disk_bytes_to_perform_insert"
        try:
            # More than any disk has.
            await clickhouse.command(f"{limit} = 1000000000000000000")
            with pytest.raises(Unavailable, match="NOT_ENOUGH_SPACE"):
                await store.insert_block([BlockEntry(batch(run, {"loss": [(1, 0.5)]}))])
        finally:
            await clickhouse.command(f"{limit} = 0")
        assert await store.read_receipts(run) == []
    await store.insert_block([BlockEntry(batch(run, {"loss": [(1, 0.5)]}))])
    assert [one.last_sequence for one in await store.read_receipts(run)] == [1]


async def test_a_run_of_many_metrics_is_rewound_to_its_beginning(clickhouse: ClickHouse) -> None:
    """Of each metric the first and the last point are superseded: the list is answered, however long a statement may be."""
    store = ClickHousePoints(clickhouse)
    run = new_run_key()
    names = [f"m{number:05}" for number in range(15_000)]
    for writer, steps in ((1, (1, 9)), (2, (1,))):
        points = {name: [(step, float(writer)) for step in steps] for name in names}
        await store.insert_block([BlockEntry(batch(run, points, writer=writer))])
    scope = Scope((HistoryPart(run, cuts=(Cut(writer_max=1, last_step=0),)),))
    stats, total = await store.list_metrics(
        run, name_contains="", after_name="", limit=3, scopes={run: scope}
    )
    assert total == len(names)
    assert [(one.name, one.last_step, one.last) for one in stats] == [
        (name, 1, 2.0) for name in names[:3]
    ]
