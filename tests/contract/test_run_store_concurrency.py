"""Many calls at once on a real database: metadata's decisions hold, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import event

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.domain.run import RunState, TransitionCause
from runyard_server.metadata.requests import FinishRun, RunChange, StartRun
from runyard_server.metadata.service import MetadataConfig, MetadataService
from runyard_server.metadata.starts import StartedRun
from runyard_server.storage.memory.runs import MemoryRunIndex
from runyard_server.storage.sql import migrate, schema
from runyard_server.storage.sql.database import Database, SqlConfig
from runyard_server.storage.sql.run_store import SqlRunStore

RANK_COUNT = 12
LONE_COUNT = 8


@pytest.fixture
def service(database: Database) -> MetadataService:
    return MetadataService(
        MetadataConfig(), runs=SqlRunStore(database), index=MemoryRunIndex(), clock=SystemClock()
    )


async def start_all(service: MetadataService) -> tuple[list[StartedRun], list[StartedRun]]:
    """Starts the ranks of one run and some runs of their own, each twice, all at once."""
    asks = [
        StartRun(request_id=f"rank{n:028}", project="p", run_id="x", writer_label=f"rank{n}")
        for n in range(RANK_COUNT)
    ] + [StartRun(request_id=f"lone{n:028}", project="p") for n in range(LONE_COUNT)]
    async with asyncio.timeout(60):
        firsts_and_repeats = await asyncio.gather(*(service.start_run(ask) for ask in asks * 2))
    firsts, repeats = firsts_and_repeats[: len(asks)], firsts_and_repeats[len(asks) :]
    for first, repeat in zip(firsts, repeats, strict=True):
        assert (first.run.run_key, first.writer) == (repeat.run.run_key, repeat.writer)
    return firsts[:RANK_COUNT], firsts[RANK_COUNT:]


async def test_starts_at_once_make_each_thing_once(service: MetadataService) -> None:
    """Ranks that start together share one run and one attempt, with numbers of their own; repeats get the first answer."""
    ranks, lone = await start_all(service)
    assert len({rank.run.run_key for rank in ranks}) == 1
    assert sorted(rank.writer.writer for rank in ranks) == list(range(1, RANK_COUNT + 1))
    assert {rank.writer.attempt for rank in ranks} == {1}
    assert len({start.run.run_key for start in lone}) == LONE_COUNT
    project = await service.get_project("local/p")
    assert (project.run_count, project.live_run_count) == (LONE_COUNT + 1, LONE_COUNT + 1)
    names = {start.run.display_name.rpartition("-")[2] for start in (ranks[0], *lone)}
    assert names == {str(n) for n in range(1, LONE_COUNT + 2)}


async def test_changes_and_ends_at_once_all_count(service: MetadataService) -> None:
    """Each writer's change is in the document; the run ends once, with its last writer; counts come out even."""
    ranks, lone = await start_all(service)

    async def live_and_end(started: StartedRun) -> None:
        number, run_key = started.writer.writer, started.run.run_key
        change = RunChange(5, config_set_json=json.dumps({f"w{number}": number}))
        for _ in range(2):
            await service.apply_changes(run_key, number, [change])
        ask = FinishRun(run_key, number, 9, 0, TransitionCause.FINISH_CALLED)
        for _ in range(2):
            await service.finish_run(ask)

    async with asyncio.timeout(60):
        await asyncio.gather(*(live_and_end(started) for started in (*ranks, *lone)))
    document = await service.get_run(path="local/p/x", run_key=None)
    assert document.state is RunState.FINISHED
    assert json.loads(document.config_json) == {f"w{n}": n for n in range(1, RANK_COUNT + 1)}
    history, _ = await service.list_transitions("local/p/x", page_size=0, page_token="")
    assert len(history) == 2
    project = await service.get_project("local/p")
    assert (project.run_count, project.live_run_count) == (LONE_COUNT + 1, 0)


async def test_a_full_queue_refuses(database: Database) -> None:
    """More transactions than may wait are refused with a delay."""
    url = database.engine.url.render_as_string(hide_password=False)
    small = Database(SqlConfig(url=url, pending_max=1), clock=SystemClock())
    results = await asyncio.gather(
        *(small.transact(lambda c: c.exec_driver_sql("SELECT 1").scalar()) for _ in range(3)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, ResourceExhausted)]
    assert [error.reason for error in refused] == ["QUEUE_FULL"] * 2
    assert refused[0].retry_delay_s
    await small.stop()


async def test_a_database_that_is_away_is_unavailable() -> None:
    """No database at the address: start and transactions raise Unavailable, with what the driver said."""
    away = Database(
        SqlConfig(url="postgresql://nobody@127.0.0.1:9/none", transaction_timeout_s=5.0),
        clock=SystemClock(),
    )
    with pytest.raises(Unavailable):
        await away.start()
    with pytest.raises(Unavailable) as caught:
        await away.transact(lambda c: None)
    assert caught.value.reason == "STORE_UNAVAILABLE"
    await away.stop()


async def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    """A commit is synced (synchronous FULL), readers are not blocked (WAL), references hold."""
    database = Database(SqlConfig(url=f"sqlite:///{tmp_path}/a.sqlite"), clock=SystemClock())
    await database.start()
    for name, expected in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        found = await database.transact(
            lambda c, name=name: c.exec_driver_sql(f"PRAGMA {name}").scalar()  # type: ignore[misc]  # a default argument
        )
        assert found == expected
    await database.stop()


class Killed(Exception):
    """Stands for the death of the process."""


async def test_a_migration_can_die_at_each_statement(database: Database) -> None:
    """Killed before any of its statements, a migration leaves nothing, and the next start does all of it."""
    engine = database.engine
    with engine.begin() as connection:
        schema.metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
    statement_count = 0
    while not _upgrade_until(engine, statement_count):
        with engine.begin() as connection:
            assert engine.dialect.get_table_names(connection) == []
        statement_count += 3
    assert statement_count > 20
    migrate.check(engine)


def _upgrade_until(engine: sqlalchemy.Engine, statement_count: int) -> bool:
    """Migrates, but dies before the statement after that many; returns whether it came to its end."""
    executed = 0

    def count(*_: object) -> None:
        nonlocal executed
        executed += 1
        if executed > statement_count:
            raise Killed

    event.listen(engine, "before_cursor_execute", count)
    try:
        migrate.upgrade(engine)
    except Killed:
        return False
    finally:
        event.remove(engine, "before_cursor_execute", count)
    return True
