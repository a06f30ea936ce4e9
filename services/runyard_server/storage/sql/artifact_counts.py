"""What refers to what among artifacts, in SQL: counts of manifests, chunks and contents, changed under the lock of the project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from runyard_server.domain.artifacts import content_missing
from runyard_server.domain.manifests import (
    Chunk,
    Manifest,
    content_size,
    line_content,
    line_path,
    packed_contents,
    unpack_lines,
)
from runyard_server.storage.sql.artifact_schema import (
    NO_OBJECT_SQL,
    UNUSED_SQL,
    artifact_projects,
    chunks,
    contents,
    draft_batches,
    manifest_chunks,
    manifests,
    released_objects,
)

_VALUES_MAX = 2_000
"""Values of one IN list; SQLite takes 32,766."""
_Value = TypeVar("_Value")


def find_project(connection: Connection, project_path: str) -> int | None:
    """Returns the key of a project, None if it has never had an artifact."""
    statement = select(artifact_projects.c.project_key).where(
        artifact_projects.c.project_path == project_path
    )
    key = connection.execute(statement).scalar()
    return None if key is None else int(key)


def make_project(connection: Connection, project_path: str) -> int:
    """Returns the key of a project, which is made if need be, and locks it until the end of the transaction."""
    key = find_project(connection, project_path)
    if key is None:
        # If another process is faster, the transaction begins anew and finds it.
        statement = insert(artifact_projects).returning(artifact_projects.c.project_key)
        key = connection.execute(statement, {"project_path": project_path}).scalar_one()
    lock_project(connection, key)
    return key


def lock_project(connection: Connection, project_key: int) -> None:
    """Waits until no other transaction changes counts of the project, and keeps others out until the end of this one."""
    statement = select(artifact_projects.c.project_key).where(
        artifact_projects.c.project_key == project_key
    )
    connection.execute(statement.with_for_update()).one()


def slices(values: Collection[_Value]) -> Iterator[Sequence[_Value]]:
    """Gives the values in parts that fit one statement."""
    listed = list(values)
    for first in range(0, len(listed), _VALUES_MAX):
        yield listed[first : first + _VALUES_MAX]


def read_objects(
    connection: Connection, project_key: int, content_ids: Collection[bytes]
) -> dict[bytes, str | None]:
    """Returns the contents that are referred to, with their objects."""
    found: dict[bytes, str | None] = {}
    for part in slices(content_ids):
        statement = select(contents.c.content_id, contents.c.object_key).where(
            contents.c.project_key == project_key, contents.c.content_id.in_(part)
        )
        found.update((bytes(row[0]), row[1]) for row in connection.execute(statement))
    return found


def keep_batch(
    connection: Connection, project_key: int, content_ids: Collection[bytes]
) -> set[bytes]:
    """Counts a batch of a draft for its contents; returns those that have not arrived."""
    known = read_objects(connection, project_key, content_ids)
    _count(connection, project_key, batch_counts=dict.fromkeys(known, 1))
    new = [content for content in content_ids if content not in known]
    if new:
        connection.execute(
            insert(contents),
            [
                {
                    "project_key": project_key,
                    "content_id": content,
                    "object_key": None,
                    "chunk_count": 0,
                    "batch_count": 1,
                }
                for content in new
            ],
        )
    return {content for content in content_ids if known.get(content) is None}


def _count(
    connection: Connection,
    project_key: int,
    *,
    chunk_counts: Mapping[bytes, int] | None = None,
    batch_counts: Mapping[bytes, int] | None = None,
) -> set[bytes]:
    """Adds to the counts of contents that are there; returns those that no chunk referred to before, and now one does."""
    of_chunks, of_batches = chunk_counts or {}, batch_counts or {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    for content in of_chunks.keys() | of_batches.keys():
        counts = (of_chunks.get(content, 0), of_batches.get(content, 0))
        groups.setdefault(counts, []).append(content)
    first: set[bytes] = set()
    for (chunk_count, batch_count), content_ids in groups.items():
        for part in slices(content_ids):
            statement = (
                update(contents)
                .where(contents.c.project_key == project_key, contents.c.content_id.in_(part))
                .values(
                    chunk_count=contents.c.chunk_count + chunk_count,
                    batch_count=contents.c.batch_count + batch_count,
                )
            )
            if chunk_count > 0:
                returned = (contents.c.content_id, contents.c.chunk_count)
                rows = connection.execute(statement.returning(*returned)).all()
                first.update(bytes(row[0]) for row in rows if row[1] == chunk_count)
                changed = len(rows)
            else:
                changed = connection.execute(statement).rowcount
            assert changed == len(part), "a content that is referred to is not there"
    return first


def _negative(counts: Mapping[bytes, int]) -> dict[bytes, int]:
    return {content: -count for content, count in counts.items()}


def commit_batches(
    connection: Connection, project_key: int, draft_id: str, new_chunks: Sequence[Chunk]
) -> int:
    """Lets new chunks refer to contents in place of the batches of a draft; returns the bytes that no chunk had before.

    Raises FailedPrecondition CONTENT_MISSING.
    """
    by_chunks: Counter[bytes] = Counter()
    for chunk in new_chunks:
        by_chunks.update(packed_contents(chunk.packed))
    _check_arrived(connection, project_key, draft_id, by_chunks.keys(), new_chunks)
    by_batches = _negative(_take_batches(connection, draft_id))
    first = _count(connection, project_key, chunk_counts=by_chunks, batch_counts=by_batches)
    release_unused(connection, project_key)
    return sum(content_size(content) for content in first)


def drop_batches(connection: Connection, project_key: int, draft_id: str) -> None:
    """Removes the batches of a draft and what only they referred to."""
    by_batches = _negative(_take_batches(connection, draft_id))
    _count(connection, project_key, batch_counts=by_batches)
    release_unused(connection, project_key)


def _take_batches(connection: Connection, draft_id: str) -> Counter[bytes]:
    by_batches: Counter[bytes] = Counter()
    statement = delete(draft_batches).where(draft_batches.c.draft_id == draft_id)
    for row in connection.execute(statement.returning(draft_batches.c.packed)).all():
        by_batches.update(packed_contents(bytes(row[0])))
    return by_batches


def _check_arrived(
    connection: Connection,
    project_key: int,
    draft_id: str,
    content_ids: Collection[bytes],
    new_chunks: Sequence[Chunk],
) -> None:
    statement = select(contents.c.content_id).where(
        contents.c.project_key == project_key, text(NO_OBJECT_SQL)
    )
    waiting = {bytes(row[0]) for row in connection.execute(statement)}
    missing = {content for content in content_ids if content in waiting}
    if not missing:
        return
    lines = (line for chunk in new_chunks for line in unpack_lines(chunk.packed))
    path = next(line_path(line).decode() for line in lines if line_content(line) in missing)
    raise content_missing(draft_id, count=len(missing), path=path)


def use_manifest(connection: Connection, project_key: int, digest: bytes) -> int | None:
    """Adds one to the use count of the manifest of that digest and returns its key; None if the project has none."""
    statement = (
        update(manifests)
        .where(manifests.c.project_key == project_key, manifests.c.digest == digest)
        .values(use_count=manifests.c.use_count + 1)
        .returning(manifests.c.manifest_key)
    )
    key = connection.execute(statement).scalar()
    return None if key is None else int(key)


def insert_manifest(
    connection: Connection, project_key: int, manifest: Manifest
) -> tuple[int, list[Chunk]]:
    """Adds a manifest that is used once; returns its key and its chunks that are new, whose contents are not counted yet."""
    key = connection.execute(
        insert(manifests).returning(manifests.c.manifest_key),
        {
            "project_key": project_key,
            "digest": manifest.digest,
            "entry_count": manifest.entry_count,
            "size_bytes": manifest.size_bytes,
            "use_count": 1,
        },
    ).scalar_one()
    keys = _use_chunks(connection, project_key, [chunk.sha256 for chunk in manifest.chunks])
    new = [chunk for chunk in manifest.chunks if chunk.sha256 not in keys]
    if new:
        connection.execute(
            insert(chunks),
            [
                {
                    "project_key": project_key,
                    "sha256": chunk.sha256,
                    "packed": chunk.packed,
                    "manifest_count": 1,
                }
                for chunk in new
            ],
        )
        keys |= _find_chunks(connection, project_key, [chunk.sha256 for chunk in new])
    rows = [
        {
            "manifest_key": key,
            "first_path": chunk.first_path,
            "chunk_key": keys[chunk.sha256],
            "entry_count": chunk.entry_count,
        }
        for chunk in manifest.chunks
    ]
    if rows:
        connection.execute(insert(manifest_chunks), rows)
    return int(key), new


def _find_chunks(
    connection: Connection, project_key: int, sha256s: Sequence[bytes]
) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for part in slices(sha256s):
        statement = select(chunks.c.sha256, chunks.c.chunk_key).where(
            chunks.c.project_key == project_key, chunks.c.sha256.in_(part)
        )
        found.update((bytes(row[0]), int(row[1])) for row in connection.execute(statement))
    return found


def _use_chunks(
    connection: Connection, project_key: int, sha256s: Sequence[bytes]
) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for part in slices(sha256s):
        statement = (
            update(chunks)
            .where(chunks.c.project_key == project_key, chunks.c.sha256.in_(part))
            .values(manifest_count=chunks.c.manifest_count + 1)
            .returning(chunks.c.sha256, chunks.c.chunk_key)
        )
        found.update((bytes(row[0]), int(row[1])) for row in connection.execute(statement))
    return found


def drop_manifest(connection: Connection, project_key: int, manifest_key: int) -> list[bytes]:
    """Takes one use from a manifest; with the last one it goes, with all that only it referred to.

    Returns the packed chunks that went.
    """
    statement = (
        update(manifests)
        .where(manifests.c.manifest_key == manifest_key)
        .values(use_count=manifests.c.use_count - 1)
        .returning(manifests.c.use_count)
    )
    if connection.execute(statement).scalar_one() > 0:
        return []
    keys = list_chunks(connection, manifest_key)
    connection.execute(
        delete(manifest_chunks).where(manifest_chunks.c.manifest_key == manifest_key)
    )
    connection.execute(delete(manifests).where(manifests.c.manifest_key == manifest_key))
    gone: list[bytes] = []
    for part in slices(keys):
        lowered = {"manifest_count": chunks.c.manifest_count - 1}
        connection.execute(update(chunks).where(chunks.c.chunk_key.in_(part)).values(lowered))
        unused = delete(chunks).where(chunks.c.chunk_key.in_(part), chunks.c.manifest_count == 0)
        rows = connection.execute(unused.returning(chunks.c.packed)).all()
        gone.extend(bytes(row[0]) for row in rows)
    by_chunks: Counter[bytes] = Counter()
    for packed in gone:
        by_chunks.update(packed_contents(packed))
    _count(connection, project_key, chunk_counts=_negative(by_chunks))
    return gone


def list_chunks(connection: Connection, manifest_key: int) -> list[int]:
    """Returns the keys of a manifest's chunks; none if the manifest is gone."""
    statement = select(manifest_chunks.c.chunk_key).where(
        manifest_chunks.c.manifest_key == manifest_key
    )
    return [int(key) for key in connection.execute(statement).scalars()]


def release_unused(connection: Connection, project_key: int) -> list[tuple[str, int]]:
    """Removes contents that nothing refers to any more, releases their objects, and returns keys and sizes of these."""
    statement = (
        delete(contents)
        .where(contents.c.project_key == project_key, text(UNUSED_SQL))
        .returning(contents.c.content_id, contents.c.object_key)
    )
    rows = connection.execute(statement).all()
    released = [(row[1], content_size(bytes(row[0]))) for row in rows if row[1] is not None]
    release_objects(connection, released)
    return released


def release_objects(connection: Connection, objects: Sequence[tuple[str, int]]) -> None:
    """Notes objects, as key and size, that are to be removed from the object store."""
    if objects:
        values: list[dict[str, Any]] = [
            {"object_key": key, "size_bytes": size} for key, size in objects
        ]
        statement = insert(released_objects).values(
            object_key=bindparam("object_key"), size_bytes=bindparam("size_bytes")
        )
        connection.execute(statement, values)
