"""RunStore: memory, SQLite and PostgreSQL keep the same promises. Each case cites the sentence of the port it checks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from runyard_server.domain.projects import (
    Project,
)
from runyard_server.domain.run import (
    RunDocument,
    RunKey,
    RunState,
    TransitionCause,
)
from runyard_server.domain.writers import WriterEnd
from runyard_server.storage.ports.run_store import (
    ProjectPosition,
    RunStore,
    RunTransaction,
)
from runyard_server.storage.sql import migrate
from runyard_server.storage.sql.database import Database
from tests.contract.run_store import add_project, add_run, make_document, make_writer, store
from tests.stores import new_run_key

__all__ = ["store"]


async def test_a_document_comes_back_as_it_was(store: RunStore) -> None:
    """Every member of a document survives, by path and by key."""
    document = await add_run(store, make_document())
    found = await store.transact(lambda tx: tx.find_run("ann", "p", "r1", will_change=False))
    assert document == found
    by_key = await store.transact(lambda tx: tx.find_run_by_key(document.run_key, will_change=True))
    assert document == by_key


async def test_what_is_not_there_is_none(store: RunStore) -> None:
    """Returns … or None."""

    def read(tx: RunTransaction) -> list[object]:
        return [
            tx.find_project("ann", "p"),
            tx.find_run("ann", "p", "r1", will_change=True),
            tx.find_run_by_key(RunKey(7), will_change=False),
            tx.find_writer(RunKey(7), 1),
            tx.find_writer_by_request("nobody"),
        ]

    assert await store.transact(read) == [None] * 5


async def test_an_action_that_raises_leaves_nothing(store: RunStore) -> None:
    """If the action raises, nothing of it is kept."""

    class Oops(Exception): ...

    def act(tx: RunTransaction) -> None:
        add_project(tx)
        tx.insert_run(make_document())
        raise Oops

    with pytest.raises(Oops):
        await store.transact(act)
    assert await store.transact(lambda tx: tx.find_project("ann", "p")) is None
    assert await store.transact(lambda tx: tx.count_outbox()) == 0


async def test_reads_see_the_writes_of_their_transaction(store: RunStore) -> None:
    """Reads see the writes of the same transaction."""
    document = make_document()

    def act(tx: RunTransaction) -> RunDocument | None:
        add_project(tx)
        tx.insert_run(document)
        changed = replace(document, notes="new", version=2)
        tx.save_run(changed)
        return tx.find_run("ann", "p", "r1", will_change=False)

    assert replace(document, notes="new", version=2) == await store.transact(act)


async def test_run_keys_beyond_2_to_the_63_come_back(store: RunStore) -> None:
    """Run keys are 64 bits, unsigned; databases have signed integers only."""
    document = await add_run(store, make_document(run_key=RunKey(2**64 - 3)))
    found = await store.transact(lambda tx: tx.find_run_by_key(document.run_key, will_change=False))
    assert document == found


async def test_run_numbers_count_up_even_at_once(store: RunStore) -> None:
    """No two committed transactions get one number."""
    await store.transact(add_project)
    numbers = await asyncio.gather(
        *(store.transact(lambda tx: tx.draw_run_number("ann", "p")) for _ in range(20))
    )
    assert list(range(1, 21)) == sorted(numbers)


async def test_two_inserts_of_one_path_make_one_run(store: RunStore) -> None:
    """Runs read with will_change are serializable: of many starts of one id one makes it, the others find it."""
    await store.transact(add_project)
    keys = [new_run_key() for _ in range(8)]

    def start(tx: RunTransaction, run_key: RunKey) -> RunKey:
        found = tx.find_run("ann", "p", "r1", will_change=True)
        if found is not None:
            return found.run_key
        tx.insert_run(make_document(run_key=run_key))
        return run_key

    made = await asyncio.gather(
        *(store.transact(lambda tx, key=key: start(tx, key)) for key in keys)  # type: ignore[misc]  # a default argument
    )
    assert len(set(made)) == 1


async def test_concurrent_changes_of_a_run_all_count(store: RunStore) -> None:
    """With will_change no other transaction changes the run until this one ends."""
    document = await add_run(store, make_document())

    def add_tag(tx: RunTransaction) -> None:
        found = tx.find_run_by_key(document.run_key, will_change=True)
        assert found is not None
        tags = (*found.tags, f"t{found.version}")
        tx.save_run(replace(found, tags=tags, version=found.version + 1))

    await asyncio.gather(*(store.transact(add_tag) for _ in range(12)))
    found = await store.transact(lambda tx: tx.find_run_by_key(document.run_key, will_change=False))
    assert found is not None
    assert len(set(found.tags)) == 14


async def test_an_older_version_is_refused(store: RunStore) -> None:
    """Its version MUST be above the stored one."""
    document = await add_run(store, make_document())
    with pytest.raises(AssertionError):
        await store.transact(lambda tx: tx.save_run(document))


async def test_projects_count_and_list_by_activity(store: RunStore) -> None:
    """Returns projects, latest activity first, then by (entity, name); the activity time never goes back."""

    def act(tx: RunTransaction) -> None:
        for entity, name, time in (
            ("b", "x", 5),
            ("a", "y", 5),
            ("a", "z", 9),
            ("a", "Ä", 5),
            ("c", "w", 1),
        ):
            add_project(tx, name, entity=entity, time=time)
        tx.change_project(
            "c", "w", run_count_change=2, live_run_count_change=1, activity_time_unix_ns=7
        )
        tx.change_project("a", "z", activity_time_unix_ns=3)

    await store.transact(act)

    def list_names(tx: RunTransaction) -> list[str]:
        return [p.path for p in tx.list_projects(entity="", after=None, limit=10)]

    expected = ["a/z", "c/w", "a/y", "a/Ä", "b/x"]
    assert expected == await store.transact(list_names)
    rest = await store.transact(
        lambda tx: tx.list_projects(entity="", after=ProjectPosition(5, "a", "y"), limit=10)
    )
    assert [p.path for p in rest] == ["a/Ä", "b/x"]
    own = await store.transact(lambda tx: tx.list_projects(entity="a", after=None, limit=2))
    assert [p.path for p in own] == ["a/z", "a/y"]
    changed = await store.transact(lambda tx: tx.find_project("c", "w"))
    assert Project("c", "w", "about", 1, 7, 2, 1) == changed


async def test_live_runs_are_listed_by_key(store: RunStore) -> None:
    """Returns runs in a live state that are not deleted, by key, those above after_key."""
    documents = [make_document(f"r{n}") for n in range(4)]
    for document in documents:
        await add_run(store, document)
    ended = replace(documents[1], state=RunState.FINISHED, version=2)
    gone = replace(documents[2], is_deleted=True, version=2)
    await store.transact(lambda tx: (tx.save_run(ended), tx.save_run(gone)))
    live = await store.transact(lambda tx: tx.list_live_runs(after_key=None, limit=10))
    assert [documents[0].run_key, documents[3].run_key] == [run.run_key for run in live]
    assert (live[0].path, live[0].state, live[0].attempt_count) == ("ann/p/r0", RunState.RUNNING, 1)
    rest = await store.transact(
        lambda tx: tx.list_live_runs(after_key=documents[0].run_key, limit=1)
    )
    assert [documents[3].run_key] == [run.run_key for run in rest]


async def test_a_deleted_run_keeps_its_path(store: RunStore) -> None:
    """A path stays taken for ever, also when its run is deleted."""
    document = await add_run(store, make_document())
    gone = replace(document, is_deleted=True, update_time_unix_ns=11, version=2)
    await store.transact(lambda tx: tx.save_run(gone))
    assert gone == await store.transact(lambda tx: tx.find_run("ann", "p", "r1", will_change=False))


async def test_heartbeats_never_go_back(store: RunStore) -> None:
    """A time never goes back; runs need not be known."""
    keys = [RunKey(2**63 + 5), RunKey(3)]
    await store.transact(lambda tx: tx.record_heartbeats([(keys[0], 10), (keys[1], 20)]))
    await store.transact(lambda tx: tx.record_heartbeats([(keys[1], 15), (keys[0], 30)]))
    await store.transact(lambda tx: tx.record_heartbeats([]))
    found = await store.transact(lambda tx: [tx.find_heartbeat(key) for key in (*keys, RunKey(4))])
    assert found == [30, 20, None]


async def test_writers_come_back_by_number_and_request(store: RunStore) -> None:
    """Writers survive whole, with their ends; uncounted ones are left out of the counted."""
    document = await add_run(store, make_document())
    end = WriterEnd(RunState.FAILED, TransitionCause.SIGNAL, -9, "why", 77, 2**64 - 1)
    first, second = make_writer(document, 1), make_writer(document, 2, label="rank1")
    ended = replace(second, end=end, applied_sequence=2**63 + 5)

    def act(tx: RunTransaction) -> None:
        tx.insert_writer(second)
        tx.insert_writer(first)
        tx.save_writer(ended)

    await store.transact(act)
    assert ended == await store.transact(lambda tx: tx.find_writer(document.run_key, 2))
    assert first == await store.transact(lambda tx: tx.find_writer_by_request(first.request_id))
    counted = await store.transact(lambda tx: tx.list_counted_writers(document.run_key))
    assert [first, ended] == counted
    await store.transact(lambda tx: tx.retire_writers(document.run_key))
    assert await store.transact(lambda tx: tx.list_counted_writers(document.run_key)) == []
    retired = await store.transact(lambda tx: tx.find_writer(document.run_key, 2))
    assert replace(ended, is_counted=False) == retired


async def test_the_outbox_holds_each_run_once_with_its_newest_version(store: RunStore) -> None:
    """Returns documents longest waiting first, each run once with its newest version."""
    first = await add_run(store, make_document("r1"))
    second = await add_run(store, replace(make_document("r2"), update_time_unix_ns=11))
    newest = replace(first, notes="n", update_time_unix_ns=12, version=2)
    await store.transact(lambda tx: tx.save_run(newest))
    found = await store.transact(lambda tx: tx.list_outbox(limit=10, bytes_max=10_000))
    assert [newest, second] == found
    assert await store.transact(lambda tx: tx.count_outbox()) == 2


async def test_a_newer_version_stays_in_the_outbox(store: RunStore) -> None:
    """A run that has a newer version by now stays in it."""
    document = await add_run(store, make_document())
    await store.transact(lambda tx: tx.save_run(replace(document, version=2)))
    await store.transact(lambda tx: tx.clear_outbox([(document.run_key, 1)]))
    assert await store.transact(lambda tx: tx.count_outbox()) == 1
    await store.transact(lambda tx: tx.clear_outbox([(document.run_key, 2)]))
    assert await store.transact(lambda tx: tx.count_outbox()) == 0


async def test_a_batch_of_the_outbox_is_bounded_by_bytes(store: RunStore) -> None:
    """Stops before the one whose config would pass bytes_max in sum, but returns at least one."""
    for number in range(3):
        large = replace(make_document(f"r{number}"), config_json='{"a":"' + "x" * 1000 + '"}')
        await add_run(store, replace(large, update_time_unix_ns=10 + number))
    two = await store.transact(lambda tx: tx.list_outbox(limit=10, bytes_max=2500))
    assert [document.run_id for document in two] == ["r0", "r1"]
    one = await store.transact(lambda tx: tx.list_outbox(limit=10, bytes_max=1))
    assert [document.run_id for document in one] == ["r0"]


async def test_migrations_lead_to_the_schema(database: Database) -> None:
    """`alembic check` finds no difference between the migrations and schema.py; a second start changes nothing."""
    await database.start()
    migrate.check(database.engine)


async def test_a_migration_is_all_or_nothing(database: Database) -> None:
    """A migration that fails half way leaves nothing behind: its statements are one transaction with its version."""
    with pytest.raises(RuntimeError), database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE half_way (a INTEGER)"))
        raise RuntimeError
    with database.engine.begin() as connection:
        assert "half_way" not in database.engine.dialect.get_table_names(connection)
