"""One connection to ClickHouse: a client for statements and queries, and the way by which blocks of rows go in."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

_ERROR_CODE: Final = re.compile(r"\bCode: (\d+)")


class Link(Protocol):
    """Used by one thread at a time."""

    client: Client

    def insert(
        self, table: str, names: Sequence[str], parts: Iterable[bytes], *, form: str
    ) -> None:
        """Inserts a block in that format (Native or Arrow), given in parts; it is durable when this returns. Raises ClickHouseError."""
        ...

    def recover(self) -> None:
        """Makes the link fit for use after a statement that failed. Never raises."""
        ...

    def close(self) -> None:
        """Gives the connection up."""
        ...


class ServerLink:
    """Clients of a server: blocks go in as bodies of HTTP requests."""

    def __init__(
        self,
        url: str,
        settings: dict[str, Any],
        *,
        connect_timeout_s: float,
        answer_timeout_s: float,
    ) -> None:
        self.client: Client = clickhouse_connect.get_client(
            dsn=url,
            connect_timeout=round(connect_timeout_s),
            send_receive_timeout=round(answer_timeout_s),
            query_retries=0,
            # A session takes one query at a time and keeps state on one replica.
            autogenerate_session_id=False,
            settings=settings,
        )

    def insert(
        self, table: str, names: Sequence[str], parts: Iterable[bytes], *, form: str
    ) -> None:
        """Inserts a block; see Link."""
        self.client.raw_insert(table, names, b"".join(parts), fmt=form)

    def recover(self) -> None:
        """Does nothing: each request stands alone."""

    def close(self) -> None:
        """Closes the client."""
        self.client.close()


class EmbeddedLink:
    """A client of the engine in this process.

    A block goes in from a file that lies in memory. clickhouse-connect writes each to the disk first, and leaves it there
    when the process is killed. chDB's own stream of inserts is no way: it says "written" where the engine refused the
    block at its end, as on a full disk.
    """

    def __init__(self, folder: Path, config_file: Path, settings: dict[str, Any]) -> None:
        # Imported here: the engine takes 200 MB, and who uses a server must not pay for it.
        from chdb.state.sqlitelike import Connection

        options = {"config-file": str(config_file)}
        self.client: Client = clickhouse_connect.get_client(
            interface="chdb", path=str(folder), chdb_options=options, settings=settings
        )
        # The engine compares folders as text: this is how clickhouse-connect writes it.
        self._inserts = Connection(f"{folder.resolve()}?{urlencode(options)}")
        for name, value in settings.items():
            self._inserts.query(f"SET {name} = {value}")

    def insert(
        self, table: str, names: Sequence[str], parts: Iterable[bytes], *, form: str
    ) -> None:
        """Inserts a block; see Link."""
        with _file_of(parts) as path:
            try:
                self._inserts.query(
                    f"INSERT INTO {table} ({', '.join(names)}) FROM INFILE '{path}' FORMAT {form}"
                )
            except RuntimeError as error:
                code = _ERROR_CODE.search(str(error))
                raise DatabaseError(str(error), code=int(code[1]) if code else None) from error

    def recover(self) -> None:
        """Takes up what a query that failed halfway has left: the engine puts it in front of the connection's next answer."""
        for _ in range(2):
            try:
                self.client.query("SELECT 1")
            except Exception:  # that answer itself, spoilt
                continue
            return

    def close(self) -> None:
        """Closes both connections."""
        self._inserts.close()
        self.client.close()


@contextmanager
def _file_of(parts: Iterable[bytes]) -> Iterator[str]:
    """Gives the path of a file that holds the parts: in memory on Linux, else one among the temporary files."""
    if sys.platform != "linux":
        with tempfile.NamedTemporaryFile(prefix="runyard-block-") as file:
            file.writelines(parts)
            file.flush()
            yield file.name
        return
    with os.fdopen(os.memfd_create("runyard-block"), "wb") as file:
        file.writelines(parts)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def arrow_block(rows: pa.Table) -> bytes:
    """Returns the rows as a file of Arrow's IPC format, which ClickHouse calls Arrow."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as file:
        file.write_table(rows)
    block: bytes = sink.getvalue().to_pybytes()
    return block
