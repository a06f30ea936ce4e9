"""Manifests of artifacts: entries as lines of text, their digest, and the chunks in which they are stored.

A manifest is its entries by path in byte order, each as the line `PATH\\0SIZE\\0SHA256_HEX\\0REFERENCE\\0ETAG\\n`. It is cut where
the checksum of a path says so, so that two manifests with mostly the same entries have mostly the same chunks:

```
 a/1 a/2 a/3 ┆ b/1 b/2 ┆ c/1 c/2 c/3      v0
 a/1 a/2 a/3 ┆ b/1 b/X ┆ c/1 c/2 c/3      v1: one chunk is new, two are shared
```
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CHUNK_ENTRIES_MEAN: Final = 64
CHUNK_ENTRIES_MAX: Final = 512
"""Where no checksum cuts for so long, the count does."""
_SHA256_BYTES: Final = 32
_SIZE_BYTES: Final = 8
CONTENT_ID_BYTES: Final = _SHA256_BYTES + _SIZE_BYTES


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a manifest: a file with its SHA-256, or a reference with an address."""

    path: str
    size_bytes: int
    sha256: bytes = b""
    reference: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring entries of a manifest, as they are stored."""

    sha256: bytes
    """Of the lines."""
    first_path: str
    entry_count: int
    packed: bytes
    """The lines, compressed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All entries of a version, cut."""

    digest: bytes
    entry_count: int
    size_bytes: int
    chunks: tuple[Chunk, ...]


def content_id(sha256: bytes, size_bytes: int) -> bytes:
    """Returns what names a content in its project: SHA-256 and size, so that a wrong size told by one client hurts no other."""
    return sha256 + size_bytes.to_bytes(_SIZE_BYTES, "big")


def content_size(content: bytes) -> int:
    """Returns the size in a content's id."""
    return int.from_bytes(content[_SHA256_BYTES:], "big")


def content_sha256(content: bytes) -> bytes:
    """Returns the SHA-256 in a content's id."""
    return content[:_SHA256_BYTES]


def write_line(entry: Entry) -> bytes:
    """Returns the entry as a line."""
    fields = (
        entry.path,
        str(entry.size_bytes),
        entry.sha256.hex(),
        entry.reference,
        entry.etag,
    )
    return "\0".join(fields).encode() + b"\n"


def read_line(line: bytes) -> Entry:
    """Returns the entry that a line says, with or without its newline."""
    path, size, sha256, reference, etag = line.rstrip(b"\n").decode().split("\0")
    return Entry(path, int(size), bytes.fromhex(sha256), reference, etag)


def line_path(line: bytes) -> bytes:
    """Returns the path of a line; lines are ordered by it, not by themselves."""
    return line[: line.index(b"\0")]


def line_content(line: bytes) -> bytes | None:
    """Returns the id of the content of a line, None if it is a reference."""
    _, size, sha256, _ = line.split(b"\0", 3)
    if not sha256:
        return None
    return content_id(bytes.fromhex(sha256.decode()), int(size))


def pack_lines(lines: Iterable[bytes]) -> bytes:
    """Returns lines compressed."""
    return zlib.compress(b"".join(lines), level=1)


def unpack_lines(packed: bytes) -> list[bytes]:
    """Returns the lines that were packed, each with its newline."""
    return zlib.decompress(packed).splitlines(keepends=True) if packed else []


def packed_contents(packed: bytes) -> set[bytes]:
    """Returns the ids of the contents of packed lines, each once."""
    found = {line_content(line) for line in unpack_lines(packed)}
    return {content for content in found if content is not None}


def merge_lines(batches: Iterable[bytes]) -> list[bytes]:
    """Returns the lines of packed batches by path; of two with the same path the one of the later batch."""
    lines: dict[bytes, bytes] = {}
    for packed in batches:
        for line in unpack_lines(packed):
            lines[line_path(line)] = line
    return [lines[path] for path in sorted(lines)]


def find_nested_path(lines: Sequence[bytes]) -> str | None:
    """Returns a path that is also the folder of another one, which no file system can hold; None if there is none."""
    folders: set[bytes] = set()
    for line in lines:
        folder = line_path(line).rpartition(b"/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition(b"/")[0]
    return next((p.decode() for p in map(line_path, lines) if p in folders), None)


def cut_manifest(lines: Sequence[bytes]) -> Manifest:
    """Returns the manifest of lines that are ordered by path, each path once."""
    digest = hashlib.sha256()
    size_bytes = 0
    chunks: list[Chunk] = []
    held: list[bytes] = []
    for line in lines:
        digest.update(line)
        path, size, _ = line.split(b"\0", 2)
        size_bytes += int(size)
        held.append(line)
        is_border = zlib.crc32(path) % CHUNK_ENTRIES_MEAN == 0
        if is_border or len(held) == CHUNK_ENTRIES_MAX:
            chunks.append(_make_chunk(held))
            held = []
    if held:
        chunks.append(_make_chunk(held))
    return Manifest(digest.digest(), len(lines), size_bytes, tuple(chunks))


def _make_chunk(lines: Sequence[bytes]) -> Chunk:
    return Chunk(
        sha256=hashlib.sha256(b"".join(lines)).digest(),
        first_path=line_path(lines[0]).decode(),
        entry_count=len(lines),
        packed=pack_lines(lines),
    )
