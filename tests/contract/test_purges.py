"""RunPurger and the purge of files: what is named goes, what is not stays bit by bit, and a repeat tells the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse import purge
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.purge import (
    INDEX_TABLES,
    STREAM_TABLES,
    ClickHousePurger,
)
from tests.stores import new_run_key

ROWS = 20_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ClickHouse]:
    """An embedded engine with our schema."""
    made = ClickHouse.open_embedded(tmp_path / "store")
    await made.migrate()
    yield made
    await made.close()


async def fill(store: ClickHouse, run_key: RunKey, seed: int) -> None:
    """Gives the run points and receipts."""
    chance = np.random.default_rng(seed)
    await store.insert_columns(
        "points",
        {
            "run": np.full(ROWS, run_key, np.uint64),
            "metric": np.full(ROWS, 7, np.uint64),
            "step": np.arange(ROWS, dtype=np.int64),
            "writer": np.ones(ROWS, np.uint32),
            "time": np.arange(ROWS, dtype=np.int64),
            "value": chance.random(ROWS),
            "sequence": np.arange(ROWS, dtype=np.uint64),
            "block": np.full(ROWS, seed, np.uint64),
        },
    )
    one = np.ones(1, np.uint64)
    await store.insert_columns(
        "receipts",
        {
            "run": np.full(1, run_key, np.uint64),
            "writer": np.ones(1, np.uint32),
            "first_sequence": one,
            "last_sequence": one * ROWS,
            "points_accepted": one * ROWS,
            "points_rejected": one * 0,
        },
    )


async def points_of(store: ClickHouse, run_key: RunKey) -> tuple[int, int]:
    """Returns (rows, a digest of all columns) of the run."""
    found = await store.query_arrow(
        f"SELECT count() AS n, sum(cityHash64(*)) AS digest FROM points WHERE run = {run_key}"
    )
    return found.column("n")[0].as_py(), found.column("digest")[0].as_py()


def purger_of(store: ClickHouse) -> ClickHousePurger:
    return ClickHousePurger(store, tables=STREAM_TABLES, clock=SystemClock())


async def test_a_purge_removes_what_it_names_and_nothing_else(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three runs in one part one goes: its rows are counted, the bytes are those of the disk, its neighbours are as before."""
    monkeypatch.setattr(
        purge, "DISK_WAIT_S", 0.0
    )  # the folder itself is measured by the integration test
    keys = [new_run_key() for _ in range(3)]
    for seed, key in enumerate(keys):
        await fill(store, key, seed)
    await store.command("OPTIMIZE TABLE points FINAL")
    before = [await points_of(store, key) for key in keys]
    size = "SELECT sum(bytes_on_disk) AS b FROM system.parts WHERE table = 'points' AND active"
    bytes_before = (await store.query_arrow(size)).column("b")[0].as_py()
    purged = {one.table: one for one in await purger_of(store).purge_runs([keys[1]])}
    bytes_after = (await store.query_arrow(size)).column("b")[0].as_py()
    assert (purged["points"].rows, purged["receipts"].rows) == ((ROWS,), (1,))
    assert bytes_before - bytes_after == purged["points"].bytes > 0
    assert await points_of(store, keys[1]) == (0, 0)
    assert [before[0], before[2]] == [await points_of(store, key) for key in (keys[0], keys[2])]


async def test_a_repeat_tells_the_same(store: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts are those of the first purge, also for a store that was opened anew, and of runs that never were: nothing."""
    monkeypatch.setattr(purge, "DISK_WAIT_S", 0.0)
    key, nothing = new_run_key(), new_run_key()
    await fill(store, key, 1)
    first = await purger_of(store).purge_runs([key, nothing])
    assert first == await purger_of(store).purge_runs([key, nothing])
    assert {(ROWS, 0), (1, 0), (0, 0)} == {one.rows for one in first}


async def test_a_late_batch_is_purged_too(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that came after a purge go with the next; the counts never shrink."""
    monkeypatch.setattr(purge, "DISK_WAIT_S", 0.0)
    key = new_run_key()
    await fill(store, key, 1)
    purger = purger_of(store)
    await purger.purge_runs([key])
    await fill(store, key, 2)
    again = {one.table: one.rows for one in await purger.purge_runs([key])}
    assert again["points"] == (ROWS,)
    assert await points_of(store, key) == (0, 0)


async def test_settings_of_the_tables_are_as_before(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a purge the tables keep outdated parts as long as before: a power cut may need them."""
    monkeypatch.setattr(purge, "DISK_WAIT_S", 0.0)
    key = new_run_key()
    await fill(store, key, 1)
    sql = "SELECT create_table_query AS q FROM system.tables WHERE name = 'points'"
    before = (await store.query_arrow(sql)).column("q")[0].as_py()
    await purger_of(store).purge_runs([key])
    assert before == (await store.query_arrow(sql)).column("q")[0].as_py()


async def test_all_that_runs_stream_is_purged(store: ClickHouse) -> None:
    """Every table with rows of runs is named, but for the index and the records of purges themselves."""
    found = await store.query_arrow(
        "SELECT table FROM system.columns WHERE database = currentDatabase() AND name = 'run'"
    )
    assert set(found["table"].to_pylist()) == {*STREAM_TABLES, *INDEX_TABLES, "purges"}
