"""Reads pages of a manifest's entries out of its chunks; a part of sql/artifacts.py."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

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
    lines = _read_lines(connection, version.manifest_key, prefix, after_path, limit)
    total_count = int(version.entry_count)
    if prefix:
        total_count = _count(connection, version.manifest_key, prefix)
    objects: dict[bytes, str | None] = {}
    if with_objects:
        wanted = {content for content in map(line_content, lines) if content is not None}
        objects = read_objects(connection, version.project_key, wanted)
    return EntryPage([_entry(line, objects) for line in lines], total_count)


def _entry(line: bytes, objects: dict[bytes, str | None]) -> StoredEntry:
    content = line_content(line)
    key = objects.get(content) if content is not None else None
    return StoredEntry(read_line(line), key or "")


def _read_lines(
    connection: Connection, manifest_key: int, prefix: str, after_path: str, limit: int
) -> list[bytes]:
    """Returns up to `limit` lines whose paths have the prefix and come after `after_path`."""
    columns = manifest_chunks.c
    statement = (
        select(columns.first_path, chunks.c.packed)
        .join(chunks, chunks.c.chunk_key == columns.chunk_key)
        .where(columns.manifest_key == manifest_key)
        .order_by(columns.first_path)
        .limit(_CHUNKS_AT_ONCE)
    )
    if prefix:
        statement = statement.where(columns.first_path <= prefix + _HIGHEST_CHARACTERS)
    start, after = prefix.encode(), after_path.encode()
    # The first path that is wanted may be inside the chunk that begins before it.
    first = _floor(connection, manifest_key, max(prefix, after_path, key=str.encode))
    rows = connection.execute(statement.where(columns.first_path >= first)).all()
    lines: list[bytes] = []
    while rows:
        for row in rows:
            lines.extend(
                line
                for line in unpack_lines(bytes(row.packed))
                if line_path(line) > after and line.startswith(start)
            )
        if len(lines) >= limit or len(rows) < _CHUNKS_AT_ONCE:
            break
        rows = connection.execute(statement.where(columns.first_path > rows[-1].first_path)).all()
    return lines[:limit]


def _floor(connection: Connection, manifest_key: int, path: str) -> str:
    """Returns the first path of the chunk in which a path is or would be; nothing if it is before all."""
    columns = manifest_chunks.c
    statement = select(func.max(columns.first_path)).where(
        columns.manifest_key == manifest_key, columns.first_path <= path
    )
    return connection.execute(statement).scalar() or ""


def _count(connection: Connection, manifest_key: int, prefix: str) -> int:
    """Returns how many paths have the prefix; only the chunks at both ends are looked into."""
    columns = manifest_chunks.c
    statement = (
        select(columns.chunk_key, columns.entry_count)
        .where(
            columns.manifest_key == manifest_key,
            columns.first_path >= _floor(connection, manifest_key, prefix),
            columns.first_path <= prefix + _HIGHEST_CHARACTERS,
        )
        .order_by(columns.first_path)
    )
    listed = connection.execute(statement).all()
    edges = {row.chunk_key for row in (*listed[:1], *listed[-1:])}
    packed = select(chunks.c.packed).where(chunks.c.chunk_key.in_(edges))
    start = prefix.encode()
    at_edges = sum(
        line.startswith(start)
        for one in connection.execute(packed).scalars()
        for line in unpack_lines(bytes(one))
    )
    return at_edges + sum(int(row.entry_count) for row in listed[1:-1])
