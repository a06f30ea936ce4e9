"""Databases for tests of SQL adapters: each test gets one of its own, with our schema in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy

from runyard_server.domain.clock import SystemClock
from runyard_server.storage.sql.database import Database, SqlConfig

DATABASES = ["memory", "sqlite", "postgresql"]
"""What the suites of SQL ports run on; memory is the reference without a database."""
_numbers = itertools.count(1)


@asynccontextmanager
async def open_database(
    request: pytest.FixtureRequest, folder: Path
) -> AsyncIterator[Database | None]:
    """Gives the database that the fixture's parameter names, None for memory."""
    if request.param == "memory":
        yield None
        return
    if request.param == "sqlite":
        made = Database(SqlConfig(url=f"sqlite:///{folder}/test.sqlite"), clock=SystemClock())
        await made.start()
        yield made
        await made.stop()
        return
    template: sqlalchemy.URL = request.getfixturevalue("postgres_template")
    name = f"runyard_test_{os.getpid()}_{next(_numbers)}"
    server = template.set(database="postgres")
    run_apart(server, f"CREATE DATABASE {name} TEMPLATE {template.database}")
    made = Database(
        SqlConfig(url=url_text(template.set(database=name)), thread_count=4), clock=SystemClock()
    )
    await made.start()
    yield made
    await made.stop()
    run_apart(server, f"DROP DATABASE {name} WITH (FORCE)")


def run_apart(url: sqlalchemy.URL, statement: str) -> None:
    """Runs a statement outside of any transaction."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


def url_text(url: sqlalchemy.URL) -> str:
    """Returns the URL as text, its password included."""
    return url.render_as_string(hide_password=False)
