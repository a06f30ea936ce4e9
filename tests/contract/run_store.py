"""Documents, writers and projects that the contract of RunStore is tried with, and the stores that must keep it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runyard_server.domain.projects import (
    Project,
)
from runyard_server.domain.run import (
    Host,
    MetricDefinition,
    RunDocument,
    RunKey,
    RunState,
)
from runyard_server.domain.writers import Writer
from runyard_server.storage.memory.run_store import MemoryRunStore
from runyard_server.storage.ports.run_store import (
    RunStore,
    RunTransaction,
)
from runyard_server.storage.sql.run_store import SqlRunStore
from tests.contract.databases import DATABASES, open_database
from tests.stores import new_run_key


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunStore]:
    async with open_database(request, tmp_path) as database:
        yield MemoryRunStore() if database is None else SqlRunStore(database)


def make_document(run_id: str = "r1", *, run_key: RunKey | None = None) -> RunDocument:
    return RunDocument(
        run_key=run_key or new_run_key(),
        entity="ann",
        project="p",
        run_id=run_id,
        display_name="calm-river-1",
        state=RunState.RUNNING,
        config_json='{"lr":0.1,"n":18446744073709551615,"s":"ü\\u0000"}',
        notes="two\nlines",
        tags=("b", "a"),
        group="g",
        job_type="train",
        create_time_unix_ns=10,
        start_time_unix_ns=9,
        update_time_unix_ns=10,
        host=Host(hostname="h", pid=2**40, extra_json='{"a":1}'),
        metric_definitions=(MetricDefinition("loss/*", "step", ("min", "last"), "minimize", True),),
        version=1,
    )


def make_writer(document: RunDocument, number: int = 1, **changes: object) -> Writer:
    writer = Writer(
        run_key=document.run_key,
        writer=number,
        request_id=f"request-{document.run_key}-{number}",
        label="main",
        attempt=1,
        is_resumed=False,
        start_time_unix_ns=5,
    )
    return replace(writer, **changes)  # type: ignore[arg-type]  # members of Writer


def add_project(tx: RunTransaction, name: str = "p", *, entity: str = "ann", time: int = 1) -> None:
    tx.insert_project(Project(entity, name, "about", time, time))


async def add_run(store: RunStore, document: RunDocument) -> RunDocument:
    def add(tx: RunTransaction) -> None:
        if tx.find_project(document.entity, document.project) is None:
            add_project(tx, document.project, entity=document.entity)
        tx.insert_run(document)

    await store.transact(add)
    return document
