"""Keeps tables that were read lately on the local disk, as columns that are mapped into memory, and reads pages of them.

A Parquet file is fetched whole, once, and rewritten column by column: then a page costs no more than the rows on it, a
filter one column, and none of it lies in the memory of Python. Files are known by the SHA-256 of what they hold.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import http.client
import json
import logging
import shutil
import threading
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from runyard_server.domain.errors import InvalidArgument, Unavailable
from runyard_server.domain.tables import TableAsk, TableColumn, TableFile, TablePage
from runyard_server.storage.parquet.cells import cell_writer, columns_of, plain_column, plain_type
from runyard_server.storage.parquet.filters import matching_rows, sorted_rows

log = logging.getLogger("runyard.tables")

PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 20
_BATCH_BYTES: Final = 16 << 20
_BATCH_ROWS_MAX: Final = 65_536
_ROWS_AT_ONCE: Final = 500
_ORDERS_BYTES_MAX: Final = 64 << 20
_KEPT: Final = ".arrow"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class TablesConfig:
    """Tables that are read: how large, and how many are kept on this process's disk."""

    file_bytes_max: int = 1 << 30
    """Largest Parquet file that is read."""
    table_bytes_max: int = 4 << 30
    """Largest table, unpacked."""
    cache_bytes_max: int = 4 << 30
    """Tables kept unpacked, all together; the one read longest ago goes first. The one in use may be beyond it."""
    fetch_timeout_s: float = 20.0
    """Longest wait for the object store to go on sending."""
    threads: int = 2
    """Tables read at once."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A table that is mapped into memory."""

    table: pa.Table
    columns: tuple[TableColumn, ...]
    starts: NDArray[np.int64]
    """First row of each batch, and the number of rows behind the last."""
    size_bytes: int


class ParquetTables:
    """The port TableReader over Parquet files that are fetched by URL."""

    def __init__(self, folder: Path, config: TablesConfig) -> None:
        self._folder = folder
        self._config = config
        self._threads = concurrent.futures.ThreadPoolExecutor(config.threads, "tables")
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._orders: OrderedDict[tuple[object, ...], NDArray[np.int64]] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[str, asyncio.Future[_Kept]] = {}
        shutil.rmtree(folder, ignore_errors=True)

    async def read_page(self, file: TableFile, ask: TableAsk) -> TablePage:
        """Returns rows; see the port."""
        kept = await self._table(file)
        return await self._in_thread(lambda: self._page(file.sha256, kept, ask))

    async def close(self) -> None:
        """Lets go of all tables and of what is kept on the disk."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._kept.clear()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _in_thread(self, action: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    async def _table(self, file: TableFile) -> _Kept:
        """Returns the table: kept, being made for another call, or made now."""
        with self._lock:
            kept = self._kept.get(file.sha256)
            if kept is not None:
                self._kept.move_to_end(file.sha256)
                return kept
        making = self._making.get(file.sha256)
        if making is None:
            making = asyncio.ensure_future(self._in_thread(lambda: self._make(file)))
            self._making[file.sha256] = making
            making.add_done_callback(lambda done: self._made(file.sha256, done))
        return await asyncio.shield(making)

    def _made(self, key: str, done: asyncio.Future[_Kept]) -> None:
        del self._making[key]
        if not done.cancelled():
            done.exception()  # seen: those who waited may all be gone

    def _make(self, file: TableFile) -> _Kept:
        if file.size_bytes > self._config.file_bytes_max:
            raise _too_large(
                f"{file.name!r} has {file.size_bytes} bytes, tables of at most {self._config.file_bytes_max} are read; download it",
                self._config.file_bytes_max,
            )
        packed = self._folder / f"{file.sha256}.{threading.get_ident()}.parquet"
        unpacked = packed.with_suffix(_KEPT)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._fetch(file, packed)
            _unpack(file, packed, unpacked, bytes_max=self._config.table_bytes_max)
            target = self._folder / f"{file.sha256}{_KEPT}"
            unpacked.replace(target)
            kept = _open(target)
        except pa.ArrowInvalid as error:
            raise _no_table(file, str(error)) from error
        except (OSError, pa.ArrowException) as error:
            raise Unavailable(
                "STORE_UNAVAILABLE",
                f"the table {file.name!r} cannot be unpacked on this server: {error}",
                metadata={"store": "tables"},
                retry_delay_s=1.0,
            ) from error
        finally:
            packed.unlink(missing_ok=True)
            unpacked.unlink(missing_ok=True)
        self._keep(file.sha256, kept)
        return kept

    def _keep(self, key: str, kept: _Kept) -> None:
        with self._lock:
            self._kept[key] = kept
            total = sum(one.size_bytes for one in self._kept.values())
            while total > self._config.cache_bytes_max and len(self._kept) > 1:
                oldest, gone = self._kept.popitem(last=False)
                total -= gone.size_bytes
                # Whoever reads it still has it mapped; its room is free when they are done.
                (self._folder / f"{oldest}{_KEPT}").unlink(missing_ok=True)

    def _fetch(self, file: TableFile, path: Path) -> None:
        digest, size = hashlib.sha256(), 0
        try:
            request = urllib.request.urlopen(file.url, timeout=self._config.fetch_timeout_s)
            with request as reply, path.open("wb") as target:
                while chunk := reply.read(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > file.size_bytes:
                        break
                    digest.update(chunk)
                    target.write(chunk)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise Unavailable(
                "STORE_UNAVAILABLE",
                f"the object store did not give {file.name!r}: {error}",
                metadata={"store": "blobs"},
                retry_delay_s=1.0,
            ) from error
        if digest.hexdigest() != file.sha256:
            raise Unavailable(
                "STORE_UNAVAILABLE",
                f"{file.name!r} came with SHA-256 {digest.hexdigest()}, {file.sha256} was stored",
                metadata={"store": "blobs"},
                retry_delay_s=1.0,
            )

    def _page(self, key: str, kept: _Kept, ask: TableAsk) -> TablePage:
        rows = self._rows(key, kept, ask)
        count = kept.table.num_rows if rows is None else len(rows)
        last = min(count, ask.offset + ask.limit)
        texts: list[str] = []
        size = 0
        for start in range(min(ask.offset, last), last, _ROWS_AT_ONCE):
            stop = min(last, start + _ROWS_AT_ONCE)
            wanted = np.arange(start, stop) if rows is None else rows[start:stop]
            for text in _texts(kept, wanted):
                size += len(text)
                if size > PAGE_BYTES_MAX and texts:
                    return TablePage(kept.columns, tuple(texts), count, kept.table.num_rows)
                texts.append(text)
        return TablePage(kept.columns, tuple(texts), count, kept.table.num_rows)

    def _rows(self, key: str, kept: _Kept, ask: TableAsk) -> NDArray[np.int64] | None:
        """Returns the numbers of the matching rows in order; None: all, as logged. Remembers the last ones."""
        if not ask.filters and not ask.sort_column:
            return None
        name = (key, ask.filters, ask.sort_column, ask.is_descending)
        with self._lock:
            known = self._orders.get(name)
            if known is not None:
                self._orders.move_to_end(name)
                return known
        rows = matching_rows(kept.table, kept.columns, ask.filters)
        if ask.sort_column:
            rows = sorted_rows(
                kept.table,
                kept.columns,
                rows,
                sort_column=ask.sort_column,
                is_descending=ask.is_descending,
            )
        assert rows is not None
        with self._lock:
            self._orders[name] = rows
            while sum(one.nbytes for one in self._orders.values()) > _ORDERS_BYTES_MAX:
                self._orders.popitem(last=False)
        return rows


def _unpack(file: TableFile, packed: Path, unpacked: Path, *, bytes_max: int) -> None:
    """Rewrites a Parquet file as Arrow, so many rows at a time as fit into little memory."""
    source = pq.ParquetFile(packed, memory_map=True, pre_buffer=False)
    schema = source.schema_arrow
    if len(set(schema.names)) != len(schema.names):
        raise _no_table(file, "names of columns come twice")
    kept = pa.schema(
        [pa.field(field.name, plain_type(field.type)) for field in schema],
        metadata=_named_types(schema),
    )
    groups = [source.metadata.row_group(i).total_byte_size for i in range(source.num_row_groups)]
    row_bytes = max(1, sum(groups) // max(1, source.metadata.num_rows))
    batch_rows = max(1, min(_BATCH_ROWS_MAX, _BATCH_BYTES // row_bytes))
    with pa.OSFile(str(unpacked), "wb") as target, pa.ipc.new_file(target, kept) as writer:
        for batch in source.iter_batches(batch_size=batch_rows):
            columns = [plain_column(batch.column(i)) for i in range(batch.num_columns)]
            writer.write_batch(pa.record_batch(columns, schema=kept))
            if target.tell() > bytes_max:
                raise _too_large(
                    f"{file.name!r} has more than {bytes_max} bytes when unpacked, which is the limit; download it",
                    bytes_max,
                )


def _named_types(schema: pa.Schema) -> dict[bytes, bytes]:
    """Returns the schema's metadata for `columns_of`; nested types of other programs get ours."""
    nested = {}
    for field in schema:
        if pa.types.is_struct(field.type) or pa.types.is_map(field.type):
            nested[field.name] = "object"
        elif pa.types.is_list(field.type) or pa.types.is_large_list(field.type) or pa.types.is_fixed_size_list(field.type):  # fmt: skip
            nested[field.name] = "list"
    told = {column.name: column.type for column in columns_of(schema)} | nested
    content = {"columns": [{"name": name, "type": kind} for name, kind in told.items()]}
    return {b"runyard": json.dumps(content).encode()}


def _open(path: Path) -> _Kept:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    sizes = [batch.num_rows for batch in table.to_batches()]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    return _Kept(table, columns_of(table.schema), starts, path.stat().st_size)


def _texts(kept: _Kept, rows: NDArray[np.int64]) -> list[str]:
    """Returns the rows as JSON arrays, in the order asked; only the batches that hold them are touched."""
    batches = kept.table.to_batches()
    owners = np.searchsorted(kept.starts, rows, "right") - 1
    texts: list[str] = [""] * len(rows)
    writers = [cell_writer(column) for column in kept.columns]
    for owner in np.unique(owners):
        places = np.flatnonzero(owners == owner)
        inside = pa.array(rows[places] - kept.starts[owner])
        some = batches[owner].take(inside)
        cells = [
            ["null" if value is None else write(value) for value in some.column(i).to_pylist()]
            for i, write in enumerate(writers)
        ]
        for place, row in zip(places, zip(*cells, strict=True), strict=True):
            texts[place] = f"[{','.join(row)}]"
    return texts


def _no_table(file: TableFile, problem: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID",
        f"file {file.name[:256]!r} holds no table that can be read (Parquet): {problem[:256]}",
        metadata={"field": "file", "value": file.name[:256]},
    )


def _too_large(message: str, limit: int) -> InvalidArgument:
    return InvalidArgument("FIELD_TOO_LARGE", message, metadata={"field": "file", "limit": limit})
