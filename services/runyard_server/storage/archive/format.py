"""The format of an archive: a Parquet file per writer, its lines by number, in row groups that are read one by one.

A row group has about a mebibyte of text, so a page costs one range of the object, whatever the object's size. The footer says
of each row group where it lies, and its lowest and highest line and time.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from runyard_server.domain.console import ESCAPES

LINES: Final = pa.schema(
    [
        pa.field("line", pa.uint64(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("stream", pa.uint8(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("sequence", pa.uint64(), nullable=False),
    ]
)
"""One row per line: number, Unix ms at which it began, stream, text with its colours, sequence of its last telling."""
_STORED: Final = LINES.append(pa.field("plain", pa.string()))
"""An archive also has, of lines with escape sequences, the text without them: what searches look at."""
_ESCAPE: Final = "\x1b"
GROUP_BYTES_MAX: Final = 1 << 20
GROUP_LINES_MAX: Final = 16_384
FOOTER_GUESS_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 8
"""Length of the footer, and the magic number."""
_LINE, _TIME = 0, 1
_PART_BYTES: Final = 1 << 20


class ArchiveDamaged(Exception):
    """An object that is no archive, or not whole."""


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """What the footer says of the row groups; arrays of one length."""

    metadata: pq.FileMetaData
    starts: NDArray[np.int64]
    """First byte of each."""
    ends: NDArray[np.int64]
    first_lines: NDArray[np.int64]
    last_lines: NDArray[np.int64]
    low_ms: NDArray[np.int64]
    high_ms: NDArray[np.int64]
    line_counts: NDArray[np.int64]


class ArchiveFile:
    """An archive being written into a file on this disk; memory holds one row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._is_broken = False
        self._writer = pq.ParquetWriter(
            self._file,
            _STORED,
            version="2.6",
            compression="zstd",
            use_dictionary=["stream"],
            column_encoding={
                "line": "DELTA_BINARY_PACKED",
                "time": "DELTA_BINARY_PACKED",
                "sequence": "DELTA_BINARY_PACKED",
            },
            write_statistics=["line", "time"],
            write_page_checksum=True,
            store_schema=False,
        )
        self._waiting = LINES.empty_table()
        self.line_count = 0

    def add(self, page: bytes) -> None:
        """Adds lines, as `pack_lines` wrote them; pages come by line."""
        self._waiting = pa.concat_tables([self._waiting, unpack_lines(page)]).combine_chunks()
        while self._waiting.num_rows:
            count = _group_size(self._waiting)
            if count == self._waiting.num_rows:
                return  # It may not be full yet.
            self._write(count)

    def close(self) -> None:
        """Writes the rest and the footer, unless the disk has refused something: then it just lets go. Safe to repeat."""
        try:
            if not self._is_broken:
                if self._waiting.num_rows:
                    self._write(self._waiting.num_rows)
                self._writer.close()
        finally:
            self._file.close()

    def digest(self) -> tuple[int, bytes]:
        """Returns the size and the SHA-256 of the closed file."""
        sha256, size_bytes = hashlib.sha256(), 0
        with self._path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                sha256.update(part)
                size_bytes += len(part)
        return size_bytes, sha256.digest()

    def read_part(self, offset: int, size_bytes: int) -> bytes:
        """Returns a part of the closed file."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(size_bytes)

    def _write(self, count: int) -> None:
        rows = self._waiting.slice(0, count)
        whole = rows.append_column(_STORED.field("plain"), _plain(rows["text"]))
        self._is_broken = True
        self._writer.write_table(whole, row_group_size=count)
        self._is_broken = False
        self._waiting = self._waiting.slice(count)
        self.line_count += count


def _plain(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the texts without escape sequences where they have some, else null."""
    if not pc.any(pc.match_substring(texts, _ESCAPE)).as_py():
        return pa.chunked_array([pa.nulls(len(texts), pa.string())])
    coloured = pc.if_else(pc.match_substring(texts, _ESCAPE), texts, None)
    return pc.replace_substring_regex(coloured, ESCAPES, "")


def shown_texts(table: pa.Table) -> pa.ChunkedArray:
    """Returns what searches look at, of a table with or without the column `plain`."""
    plain = table["plain"] if "plain" in table.column_names else _plain(table["text"])
    return table["text"] if plain.null_count == len(plain) else pc.coalesce(plain, table["text"])


def _group_size(table: pa.Table) -> int:
    """Returns how many of the first rows make a row group; at least one."""
    lengths = pc.binary_length(table["text"]).to_numpy()[:GROUP_LINES_MAX]
    count = int(np.searchsorted(np.cumsum(lengths, dtype=np.int64), GROUP_BYTES_MAX))
    return min(max(1, count + 1), GROUP_LINES_MAX, int(table.num_rows))


def pack_lines(table: pa.Table) -> bytes:
    """Returns lines as bytes that go through a call."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, LINES) as stream:
        stream.write_table(table)
    return sink.getvalue()


def unpack_lines(page: bytes) -> pa.Table:
    """Returns the lines that `pack_lines` packed."""
    with pa.ipc.open_stream(page) as stream:
        return stream.read_all()


def footer_bytes(tail: bytes) -> int:
    """Returns how many bytes from its end one must have of an object that ends with `tail`. Raises ArchiveDamaged."""
    if len(tail) < _TAIL_BYTES or tail[-4:] != b"PAR1":
        raise ArchiveDamaged("it does not end as a Parquet file does")
    return int.from_bytes(tail[-8:-4], "little") + _TAIL_BYTES


def read_index(tail: bytes) -> ArchiveIndex:
    """Returns the index in the end of an object, of at least `footer_bytes`. Raises ArchiveDamaged."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail[-footer_bytes(tail) :]))
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        lines, times = (
            [group.column(column).statistics for group in groups] for column in (_LINE, _TIME)
        )
        return ArchiveIndex(
            metadata=metadata,
            starts=np.array([_start(group) for group in groups], np.int64),
            ends=np.array([_end(group) for group in groups], np.int64),
            first_lines=np.array([one.min for one in lines], np.int64),
            last_lines=np.array([one.max for one in lines], np.int64),
            low_ms=np.array([one.min for one in times], np.int64),
            high_ms=np.array([one.max for one in times], np.int64),
            line_counts=np.array([group.num_rows for group in groups], np.int64),
        )
    except (pa.ArrowException, OSError, AttributeError) as error:
        raise ArchiveDamaged(f"its footer is not readable: {error}") from error


def read_groups(
    index: ArchiveIndex,
    groups: Sequence[int],
    offset: int,
    content: bytes,
    *,
    may_have: Callable[[pa.Table], bool] | None = None,
) -> list[pa.Table]:
    """Returns the lines of row groups; `content` is what the object has from `offset` on. Raises ArchiveDamaged.

    With `may_have`, of row groups for whose texts it says no, no lines are returned: the other columns are not even decoded.
    """
    try:
        file = pq.ParquetFile(
            _Stretch(offset, content), metadata=index.metadata, page_checksum_verification=True
        )
        return [_read_group(file, group, may_have) for group in groups]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArchiveDamaged(f"row groups {list(groups)[:10]} are not readable: {error}") from error


def _read_group(
    file: pq.ParquetFile, group: int, may_have: Callable[[pa.Table], bool] | None
) -> pa.Table:
    if may_have is not None:
        texts = file.read_row_group(group, columns=["text", "plain"], use_threads=False)
        if not may_have(texts):
            return LINES.empty_table()
    names = LINES.names
    return file.read_row_group(group, columns=names, use_threads=False).cast(LINES)


def joined_texts(texts: pa.Table) -> Iterator[bytes]:
    """Yields the texts one behind the other, nothing between them: what none of these has, no text has."""
    for column in texts.columns:
        for chunk in column.chunks:
            _, offsets, letters = chunk.buffers()
            if letters is not None:
                ends = np.frombuffer(offsets, np.int32)
                first, last = ends[chunk.offset], ends[chunk.offset + len(chunk)]
                yield letters[int(first) : int(last)].to_pybytes()


def _start(group: Any) -> int:
    first = group.column(0)
    return int(
        first.dictionary_page_offset if first.has_dictionary_page else first.data_page_offset
    )


def _end(group: Any) -> int:
    last = group.column(group.num_columns - 1)
    begin = last.dictionary_page_offset if last.has_dictionary_page else last.data_page_offset
    return int(begin + last.total_compressed_size)


class _Stretch(io.RawIOBase):
    """A file of which only one stretch is here."""

    def __init__(self, offset: int, content: bytes) -> None:
        super().__init__()
        self._offset = offset
        self._content = content
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        end = self._offset + len(self._content)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: end}[whence]
        self._place = base + place
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        begin = self._place - self._offset
        if begin < 0:
            raise OSError(f"byte {self._place} was not fetched")
        end = len(self._content) if size < 0 else begin + size
        found = self._content[begin:end]
        self._place += len(found)
        return found
