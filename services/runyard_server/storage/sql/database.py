"""A SQL database behind a few threads: connections, transactions with repeats on conflict, migrations at start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import sqlalchemy
from prometheus_client import Counter, Histogram
from sqlalchemy import Connection, Engine, event, exc
from sqlalchemy.pool import QueuePool

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.storage.sql import migrate

T = TypeVar("T")
Action = Callable[[Connection], T]

SQL_CONFLICTS = Counter(
    "runyard_sql_conflicts_total", "Transactions run again because another came between."
)
SQL_REFUSALS = Counter(
    "runyard_sql_refusals_total", "Transactions not run or not ended, by reason.", ["reason"]
)
SQL_SECONDS = Histogram(
    "runyard_sql_seconds",
    "Time of transactions, the wait for a thread included.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)

_CONFLICT_ATTEMPTS_MAX = 8
_CONFLICT_SQLSTATES = frozenset({"40001", "40P01", "23505", "23503"})
_SQLITE_STARTUP = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -65536",
)

log = logging.getLogger("runyard.sql")


@dataclass(frozen=True, slots=True)
class SqlConfig:
    """Where the database is and how much of it is used."""

    url: str = "sqlite:///runyard.sqlite"
    """SQLAlchemy URL: `sqlite:////absolute/path` or `postgresql+psycopg://user:password@host/database`."""
    thread_count: int = 8
    """Connections, and threads that run transactions. SQLite always has one."""
    transaction_timeout_s: float = 10.0
    """Longest wait for one transaction, its queue included."""
    pending_max: int = 4096
    """Transactions that may wait; more are refused."""


class Database:
    """Runs transactions on threads of its own; the stores of the services share it."""

    def __init__(self, config: SqlConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._engine = _make_engine(config)
        is_sqlite = self._engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(
            max_workers=1 if is_sqlite else config.thread_count, thread_name_prefix="sql"
        )
        self._pending_count = 0

    @property
    def engine(self) -> Engine:
        """Returns the engine, for migrations and tests."""
        return self._engine

    async def start(self) -> None:
        """Connects and brings the schema up to date; one process at a time does. Safe to repeat.

        Raises Unavailable if the database does not answer.
        """
        await asyncio.get_running_loop().run_in_executor(self._threads, self.upgrade)

    async def stop(self) -> None:
        """Ends what is in flight and closes all connections."""
        loop = asyncio.get_running_loop()
        if self._engine.dialect.name == "sqlite":
            await loop.run_in_executor(self._threads, self._engine.dispose)
        await loop.run_in_executor(None, partial(self._threads.shutdown, cancel_futures=True))
        self._engine.dispose()

    async def transact(self, action: Action[T]) -> T:
        """Returns what the action returns, after the commit; a conflict runs it again from the start.

        Raises Unavailable if the database does not answer in time (whether the action was kept is then unknown), and
        ResourceExhausted if too many wait.
        """
        if self._pending_count >= self._config.pending_max:
            SQL_REFUSALS.labels("queue_full").inc()
            raise ResourceExhausted(
                "QUEUE_FULL",
                f"{self._pending_count} transactions wait for the database; repeat in a second",
                metadata={"queue": "sql", "limit": self._config.pending_max},
                retry_delay_s=1.0,
            )
        self._pending_count += 1
        start_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._config.transaction_timeout_s):
                return await self._submit(action)
        except TimeoutError:
            SQL_REFUSALS.labels("timeout").inc()
            seconds = self._config.transaction_timeout_s
            raise _unavailable(f"did not answer within {seconds:g} s") from None
        finally:
            SQL_SECONDS.observe(self._clock.monotonic_s() - start_s)

    async def _submit(self, action: Action[T]) -> T:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._run, action)
        future.add_done_callback(self._count_down)
        return await future

    def _count_down(self, _: object) -> None:
        self._pending_count -= 1

    def upgrade(self) -> None:
        """Does what `start` does, on the caller's thread."""
        try:
            migrate.upgrade(self._engine)
        except exc.DBAPIError as error:
            raise _unavailable(f"cannot be opened or brought up to date: {error.orig}") from error

    def _run(self, action: Action[T]) -> T:
        for attempt in range(1, _CONFLICT_ATTEMPTS_MAX + 1):
            try:
                with self._engine.begin() as connection:
                    return action(connection)
            except exc.DBAPIError as error:
                if _is_conflict(error) and attempt < _CONFLICT_ATTEMPTS_MAX:
                    SQL_CONFLICTS.inc()
                    continue
                if _is_away(error):
                    SQL_REFUSALS.labels("unavailable").inc()
                    raise _unavailable(f"does not answer: {error.orig}") from error
                raise
            except exc.TimeoutError as error:
                SQL_REFUSALS.labels("unavailable").inc()
                raise _unavailable(f"has no free connection: {error}") from error
        raise AssertionError("the last attempt returns or raises")


def _make_engine(config: SqlConfig) -> Engine:
    url = sqlalchemy.make_url(config.url)
    if url.get_backend_name() == "sqlite":
        engine = sqlalchemy.create_engine(
            url,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            connect_args={"check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return sqlalchemy.create_engine(
        url,
        pool_size=config.thread_count,
        max_overflow=0,
        pool_timeout=config.transaction_timeout_s,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": 5, "application_name": "runyard"},
    )


def _prepare_sqlite(connection: Any, _: object) -> None:
    # The driver must not begin transactions by itself: it would do so late, and not at all for DDL. See
    # "Serializable isolation / Savepoints / Transactional DDL" in SQLAlchemy's notes on pysqlite.
    connection.isolation_level = None
    cursor = connection.cursor()
    for statement in _SQLITE_STARTUP:
        cursor.execute(statement)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_conflict(error: exc.DBAPIError) -> bool:
    if isinstance(error, exc.IntegrityError):
        return True
    return getattr(error.orig, "sqlstate", None) in _CONFLICT_SQLSTATES


def _is_away(error: exc.DBAPIError) -> bool:
    return error.connection_invalidated or isinstance(
        error, (exc.OperationalError, exc.InterfaceError)
    )


def _unavailable(problem: str) -> Unavailable:
    return Unavailable(
        "STORE_UNAVAILABLE",
        f"the SQL database {problem}; repeat later",
        metadata={"store": "sql"},
        retry_delay_s=1.0,
    )
