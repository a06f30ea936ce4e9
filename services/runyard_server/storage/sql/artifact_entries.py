"""Reads pages of a manifest's entries out of its chunks; a part of sql/artifacts.py."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, select

from runyard_server.domain.manifests import line_content, line_path, read_line, unpack_lines
from runyard_server.storage.ports.artifacts import EntryPage, StoredEntry
from runyard_server.storage.sql.artifact_counts import read_objects
from runyard_server.storage.sql.artifact_schema import chunks, manifest_chunks

_CHUNKS_AT_ONCE = 32
_HIGHEST_CHARACTERS = "\U0010ffff" * 2


def read_page(
    connection: Connection,
    version: Row[Any],
    *,
    prefix: str,
    after_path: str,
    limit: int,
    with_objects: bool,
) -> EntryPage:
    """Returns entries under `prefix` after `after_path`; `version` is a row of version_rows."""
    listed = _list_chunks(connection, version.manifest_key, prefix)
    lines = _read_lines(connection, listed, prefix.encode(), after_path.encode(), limit)
    total_count = _count(connection, listed, prefix) if prefix else int(version.entry_count)
    objects: dict[bytes, str | None] = {}
    if with_objects:
        wanted = {content for content in map(line_content, lines) if content is not None}
        objects = read_objects(connection, version.project_key, wanted)
    return EntryPage([_entry(line, objects) for line in lines], total_count)


def _entry(line: bytes, objects: dict[bytes, str | None]) -> StoredEntry:
    content = line_content(line)
    key = objects.get(content) if content is not None else None
    return StoredEntry(read_line(line), key or "")


def _list_chunks(connection: Connection, manifest_key: int, prefix: str) -> list[Any]:
    """Returns the chunks in which paths with the prefix may be, in order."""
    columns = manifest_chunks.c
    statement: Select[Any] = select(
        columns.first_path, columns.chunk_key, columns.entry_count
    ).where(columns.manifest_key == manifest_key)
    if not prefix:
        return list(connection.execute(statement.order_by(columns.first_path)).all())
    # The first path with the prefix may be inside the chunk that begins before it.
    before = statement.where(columns.first_path <= prefix).order_by(columns.first_path.desc())
    inside = statement.where(
        columns.first_path > prefix, columns.first_path <= prefix + _HIGHEST_CHARACTERS
    ).order_by(columns.first_path)
    return [
        *connection.execute(before.limit(1)).all(),
        *connection.execute(inside).all(),
    ]


def _read_lines(
    connection: Connection, listed: list[Any], prefix: bytes, after: bytes, limit: int
) -> list[bytes]:
    """Returns up to `limit` lines whose paths have the prefix and come after `after`."""
    position = 0
    while position + 1 < len(listed) and listed[position + 1].first_path.encode() <= after:
        position += 1
    lines: list[bytes] = []
    while position < len(listed) and len(lines) < limit:
        part = listed[position : position + _CHUNKS_AT_ONCE]
        position += len(part)
        packed = _read_packed(connection, [row.chunk_key for row in part])
        for row in part:
            lines.extend(
                line
                for line in unpack_lines(packed[row.chunk_key])
                if line_path(line) > after and line.startswith(prefix)
            )
    return lines[:limit]


def _count(connection: Connection, listed: list[Any], prefix: str) -> int:
    """Returns how many paths have the prefix; only the chunks at both ends are looked into."""
    start = prefix.encode()
    edges = listed[:1] + listed[-1:] if len(listed) > 1 else listed
    packed = _read_packed(connection, [row.chunk_key for row in edges])
    at_edges = sum(
        line.startswith(start) for row in edges for line in unpack_lines(packed[row.chunk_key])
    )
    return at_edges + sum(int(row.entry_count) for row in listed[1:-1])


def _read_packed(connection: Connection, chunk_keys: list[int]) -> dict[int, bytes]:
    statement = select(chunks.c.chunk_key, chunks.c.packed).where(
        chunks.c.chunk_key.in_(chunk_keys)
    )
    return {row[0]: bytes(row[1]) for row in connection.execute(statement)}
