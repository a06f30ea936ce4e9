"""One ClickHouse, embedded in this process (chDB) or on a server: Arrow in, Arrow out, never on the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from numpy.typing import NDArray
from prometheus_client import Counter, Histogram

from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.storage.clickhouse.embedded import FolderLock, write_engine_config
from runyard_server.storage.clickhouse.links import EmbeddedLink, Link, ServerLink, arrow_block
from runyard_server.storage.clickhouse.migrations import apply_migrations
from runyard_server.storage.clickhouse.native import native_block
from runyard_server.telemetry import SECONDS_BUCKETS

log = logging.getLogger("runyard.clickhouse")

STORE: Final = "clickhouse"
EVENT_STORE_FAILED: Final = "store_failed"

CALL_SECONDS = Histogram(
    "runyard_clickhouse_seconds",
    "Time of a call to ClickHouse, waiting for a client included.",
    ("kind",),
    buckets=SECONDS_BUCKETS,
)
CALLS_FAILED = Counter(
    "runyard_clickhouse_failed_total",
    "Calls to ClickHouse that failed, by cause.",
    ("kind", "cause"),
)

TRANSIENT_CODES: Final = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        74,  # CANNOT_READ_FROM_FILE_DESCRIPTOR
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR
        76,  # CANNOT_OPEN_FILE
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        164,  # READONLY
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        999,  # KEEPER_EXCEPTION
    }
)
"""Error codes of ClickHouse after which the same statement may succeed later. Every other code is a bug of ours."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ClickHouseConfig:
    """How ClickHouse is used; sizes of the engine hold for the embedded one only."""

    inserters: int = 2
    """Inserts at once, each with a client and a thread of its own."""
    readers: int = 3
    """Queries at once, each with a client and a thread of its own."""
    pending_max: int = 1024
    """Calls that may wait for a client, for inserts and queries each; further ones are refused."""
    insert_timeout_s: float = 60.0
    """Longest wait for an insert."""
    query_timeout_s: float = 30.0
    """Longest wait for a query; the engine gives it up at that time too."""
    connect_timeout_s: float = 5.0
    """Longest wait for a connection to a server."""
    memory_bytes_max: int = 1_000_000_000
    """What the engine may use; the process uses about 150 MB more. Beyond it inserts and queries fail and are repeated."""
    mark_cache_bytes: int = 64 * 1024 * 1024
    """Cache of the index marks."""
    merge_threads: int = 2
    """Background merges at once."""


class ClickHouse:
    """Holds the clients of one ClickHouse.

    Blocking calls run in two bounded thread pools, inserts apart from queries, so that neither starves the other.
    Every call has a deadline. When it passes, the call raises Unavailable, and what it began may still happen.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        config: ClickHouseConfig,
        *,
        lock: FolderLock | None = None,
    ) -> None:
        self._config = config
        self._lock = lock
        self._inserts = _Pool("insert", [connect() for _ in range(config.inserters)], config)
        self._queries = _Pool("query", [connect() for _ in range(config.readers)], config)

    @classmethod
    def open_embedded(cls, path: Path, config: ClickHouseConfig | None = None) -> ClickHouse:
        """Returns the engine in this process over the folder `path`, which is made where missing.

        Raises StartRefused if another process holds the folder, naming it. Blocks for about a second.
        """
        config = config or ClickHouseConfig()
        path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        config_file = write_engine_config(path, config)

        def connect() -> Link:
            return EmbeddedLink(path / "data", config_file, _settings(config))

        try:
            return cls(connect, config, lock=lock)
        except BaseException:  # whatever it was, the folder is free again
            lock.release()
            raise

    @classmethod
    def open_server(cls, url: str, config: ClickHouseConfig | None = None) -> ClickHouse:
        """Returns clients of the server at `url`: http(s)://[user:password@]host:port[/database].

        Raises Unavailable if it does not answer.
        """
        config = config or ClickHouseConfig()

        def connect() -> Link:
            return ServerLink(
                url,
                _settings(config),
                connect_timeout_s=config.connect_timeout_s,
                answer_timeout_s=max(config.insert_timeout_s, config.query_timeout_s),
            )

        try:
            return cls(connect, config)
        except OperationalError as error:
            raise _unavailable(f"does not answer: {error}") from error

    async def migrate(self) -> None:
        """Brings the tables to this program's schema. Safe to repeat, and to start again after a crash."""
        await self._inserts.call(
            lambda link: apply_migrations(link.client), timeout_s=10 * self._config.query_timeout_s
        )

    async def insert_arrow(
        self, table: str, rows: pa.Table, *, timeout_s: float | None = None
    ) -> None:
        """Inserts the rows as one part; they are durable and visible when it returns.

        Raises Unavailable if the store does not answer or cannot take them now; the rows may then be in or not.
        """
        if rows.num_rows == 0:
            return

        def insert(link: Link) -> None:
            link.insert(table, rows.column_names, [arrow_block(rows)], form="Arrow")

        await self._inserts.call(insert, timeout_s=timeout_s or self._config.insert_timeout_s)

    async def insert_columns(
        self, table: str, columns: Mapping[str, NDArray[Any]], *, timeout_s: float | None = None
    ) -> None:
        """Inserts columns of numbers, of one length, as `insert_arrow` does and for less; see native.py."""
        if not next(iter(columns.values())).size:
            return

        def insert(link: Link) -> None:
            link.insert(table, list(columns), native_block(columns), form="Native")

        await self._inserts.call(insert, timeout_s=timeout_s or self._config.insert_timeout_s)

    async def query_arrow(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> pa.Table:
        """Returns the rows of a query; `parameters` fill {name:Type} in the SQL. Floats come bit by bit."""

        def query(link: Link) -> pa.Table:
            return link.client.query_arrow(sql, parameters=dict(parameters or {}))

        return await self._queries.call(query, timeout_s=timeout_s or self._config.query_timeout_s)

    async def query_np(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> NDArray[np.void]:
        """Returns the rows of a query as a structured array; for small results, where Arrow costs more."""

        def query(link: Link) -> NDArray[np.void]:
            return link.client.query_np(sql, parameters=dict(parameters or {}))

        return await self._queries.call(query, timeout_s=timeout_s or self._config.query_timeout_s)

    async def command(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """Runs one statement that changes something (INSERT SELECT, OPTIMIZE, ALTER …) beside the inserts; returns its value."""

        def run(link: Link) -> Any:
            return link.client.command(sql, parameters=dict(parameters or {}))

        return await self._inserts.call(run, timeout_s=timeout_s or self._config.insert_timeout_s)

    async def sync_disk(self) -> None:
        """Returns when all that the engine in this process has written is on the platter; nothing to do for a server."""
        if self._lock is not None:
            await asyncio.to_thread(os.sync)

    async def close(self, *, timeout_s: float = 10.0) -> None:
        """Waits for calls in progress, at most `timeout_s`, and gives the folder free."""
        closing = asyncio.gather(self._inserts.close(), self._queries.close())
        try:
            await asyncio.wait_for(closing, timeout_s)
        except TimeoutError:
            log.warning(EVENT_STORE_FAILED, extra={"fields": {"cause": "close timed out"}})
        if self._lock is not None:
            self._lock.release()


class _Pool:
    """As many threads as links; each call takes a free link for its time."""

    def __init__(self, kind: str, links: list[Link], config: ClickHouseConfig) -> None:
        self._kind = kind
        self._links = links
        self._free = deque(links)
        self._pending_max = config.pending_max
        self._pending = 0
        self._is_closed = False
        self._pending_lock = threading.Lock()
        self._threads = concurrent.futures.ThreadPoolExecutor(
            len(links), thread_name_prefix=f"clickhouse-{kind}"
        )

    async def call(self, action: Callable[[Link], _Result], *, timeout_s: float) -> _Result:
        """Returns what `action` returns when it ran with a free link, in a thread."""
        self._admit()
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        work = self._threads.submit(self._run, action)
        work.add_done_callback(self._leave)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(work)
        except TimeoutError as error:
            CALLS_FAILED.labels(self._kind, "timeout").inc()
            raise _unavailable(f"did not answer within {timeout_s:.3g} s") from error
        except (ClickHouseError, OSError) as error:
            cause = _transient_cause(error)
            CALLS_FAILED.labels(self._kind, cause or "bug").inc()
            if not cause:
                raise
            raise _unavailable(f"failed: {str(error)[:500]}") from error
        finally:
            CALL_SECONDS.labels(self._kind).observe(loop.time() - started_s)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._pending_lock:
            self._is_closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for link in self._links:
            link.close()

    def _run(self, action: Callable[[Link], _Result]) -> _Result:
        link = self._free.popleft()  # one per thread, so there is always one
        try:
            return action(link)
        except Exception:  # passed on: whatever it was, the link is made fit again
            link.recover()
            raise
        finally:
            self._free.append(link)

    def _admit(self) -> None:
        with self._pending_lock:
            if self._is_closed:
                raise Unavailable("STOPPING", "the store is closed: the server is stopping")
            if self._pending >= self._pending_max:
                CALLS_FAILED.labels(self._kind, "queue_full").inc()
                raise ResourceExhausted(
                    "QUEUE_FULL",
                    f"{self._pending_max} calls wait for the store already, which is the limit; repeat",
                    metadata={"queue": f"clickhouse {self._kind}", "limit": self._pending_max},
                    retry_delay_s=0.5,
                )
            self._pending += 1

    def _leave(self, work: concurrent.futures.Future[Any]) -> None:
        with self._pending_lock:
            self._pending -= 1


def _settings(config: ClickHouseConfig) -> dict[str, Any]:
    return {
        "max_execution_time": round(max(config.insert_timeout_s, config.query_timeout_s)),
        # Blocks come sorted and without repeats: no second pass over them.
        "optimize_on_insert": 0,
        # Samples of machines whose clocks are far apart may be of more months than the engine takes by default.
        "max_partitions_per_insert_block": 0,
    }


def _transient_cause(error: Exception) -> str:
    """Returns why a later repeat may succeed, in a word; empty if it cannot."""
    if isinstance(error, OSError):
        return "system"
    code = getattr(error, "code", None)
    if code in TRANSIENT_CODES:
        return f"code_{code}"
    if code is None and isinstance(error, OperationalError):
        return "connection"
    return ""


def _unavailable(problem: str) -> Unavailable:
    return Unavailable(
        "STORE_UNAVAILABLE",
        f"the store (ClickHouse) {problem}; repeat later",
        metadata={"store": STORE},
        retry_delay_s=0.5,
    )
