"""Helpers of the tests of ArtifactStore: manifests in a line, and an audit that counts all references anew."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, func, select

from runyard_server.domain.artifacts import ArtifactName, ArtifactVersion, Draft, Labels
from runyard_server.domain.manifests import (
    Entry,
    content_id,
    cut_manifest,
    merge_lines,
    pack_lines,
    packed_contents,
    write_line,
)
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.artifacts import ArtifactStore, ContentUpload, EntryBatch
from runyard_server.storage.sql import artifact_schema as tables
from runyard_server.storage.sql.database import Database

PROJECT = "local/p"
RUN = RunKey(2**63 + 1)
_numbers = itertools.count(100)
Files = Mapping[str, str]
"""Paths and what they hold; a text that begins with s3:// is a reference."""


def name_of(name: str, project: str = PROJECT) -> ArtifactName:
    return ArtifactName(project, name)


def content_of(text: str) -> bytes:
    """Returns the id of a content."""
    return content_id(hashlib.sha256(text.encode()).digest(), len(text.encode()))


def batch_of(files: Files) -> EntryBatch:
    entries = [
        Entry(path, 0, reference=text)
        if text.startswith("s3://")
        else Entry(path, len(text.encode()), hashlib.sha256(text.encode()).digest())
        for path, text in sorted(files.items(), key=lambda item: item[0].encode())
    ]
    return EntryBatch(pack_lines(map(write_line, entries)), len(entries))


def draft_of(
    draft_id: str,
    name: str,
    files: Files,
    *,
    run_key: RunKey = RUN,
    time: int = 5,
    type: str = "model",
    project: str = PROJECT,
) -> Draft:
    return Draft(
        draft_id=draft_id,
        artifact=name_of(name, project),
        type=type,
        run_key=run_key,
        run_path=f"{project}/r{run_key}",
        request_id=f"request {draft_id}",
        digest=cut_manifest(merge_lines([batch_of(files).packed])).digest,
        entry_count=len(files),
        create_time_unix_ns=time,
    )


def upload_of(draft: Draft, text: str, *, number: int, time: int = 5) -> ContentUpload:
    size = len(text.encode())
    return ContentUpload(
        upload_id=f"{draft.draft_id}-u{number}",
        draft_id=draft.draft_id,
        project_path=draft.artifact.project_path,
        content_id=content_of(text),
        object_key=f"object of {draft.draft_id} {number}",
        size_bytes=size,
        part_bytes=size,
        part_count=1,
        part_md5s=(b"m" * 16, b"n" * 16),
        multipart_id="mp",
        create_time_unix_ns=time,
    )


async def send(store: ArtifactStore, draft: Draft, files: Files, *, time: int = 6) -> None:
    """Adds entries and completes an upload of each content that is missing."""
    missing = await store.add_entries(
        draft.draft_id, batch_of(files), entries_max=10_000, time_unix_ns=time
    )
    texts = sorted({text for text in files.values() if content_of(text) in missing})
    uploads = [upload_of(draft, text, number=next(_numbers), time=time) for text in texts]
    await store.insert_uploads(uploads)
    await store.complete_uploads([upload.upload_id for upload in uploads], time_unix_ns=time)


async def commit(
    store: ArtifactStore, draft_id: str, labels: Labels | None = None, *, time: int = 7
) -> tuple[ArtifactVersion, bool]:
    """Commits a draft out of its entries."""
    held = await store.read_entries(draft_id)
    found = await store.find_draft(draft_id)
    assert found is not None
    done = await store.commit_draft(
        draft_id,
        labels or Labels(),
        manifest=None if found.is_present else cut_manifest(merge_lines(held.batches)),
        revision=held.revision,
        time_unix_ns=time,
    )
    assert done is not None
    return done


async def log(
    store: ArtifactStore,
    name: str,
    files: Files,
    *,
    draft_id: str,
    labels: Labels | None = None,
    run_key: RunKey = RUN,
    time: int = 7,
    project: str = PROJECT,
) -> ArtifactVersion:
    """Logs a version of these files."""
    draft = draft_of(draft_id, name, files, run_key=run_key, time=time, project=project)
    draft = await store.create_draft(draft)
    if not draft.is_present:
        await send(store, draft, files, time=time)
    version, _ = await commit(store, draft_id, labels, time=time)
    return replace(version)


async def audit(database: Database) -> None:
    """Raises AssertionError unless all counts are those of what refers, and each version has its bytes."""
    await database.transact(_audit)


def _audit(connection: Connection) -> None:
    uses: Counter[int] = Counter()
    for table in (tables.artifact_versions, tables.drafts):
        uses.update(
            key
            for key in connection.execute(select(table.c.manifest_key)).scalars()
            if key is not None
        )
    stored = connection.execute(
        select(tables.manifests.c.manifest_key, tables.manifests.c.use_count)
    )
    assert uses == Counter({row[0]: row[1] for row in stored})
    of_chunks = Counter(connection.execute(select(tables.manifest_chunks.c.chunk_key)).scalars())
    rows = connection.execute(select(tables.chunks)).all()
    assert of_chunks == Counter({row.chunk_key: row.manifest_count for row in rows})
    wanted: dict[tuple[int, bytes], list[int]] = {}
    for row in rows:
        for content in packed_contents(bytes(row.packed)):
            wanted.setdefault((row.project_key, content), [0, 0])[0] += 1
    batches = select(tables.draft_batches.c.packed, tables.drafts.c.project_key).join(tables.drafts)
    for row in connection.execute(batches).all():
        for content in packed_contents(bytes(row.packed)):
            wanted.setdefault((row.project_key, content), [0, 0])[1] += 1
    found = connection.execute(select(tables.contents)).all()
    assert wanted == {
        (row.project_key, bytes(row.content_id)): [row.chunk_count, row.batch_count]
        for row in found
    }
    assert all(row.object_key is not None for row in found if row.chunk_count)
    kept = {row.object_key for row in found if row.object_key is not None}
    released = set(connection.execute(select(tables.released_objects.c.object_key)).scalars())
    assert not kept & released
    _audit_artifacts(connection)


def _audit_artifacts(connection: Connection) -> None:
    versions = tables.artifact_versions
    for row in connection.execute(select(tables.artifacts)).all():
        where = versions.c.artifact_key == row.artifact_key
        count = connection.execute(select(func.count()).select_from(versions).where(where)).scalar()
        assert count == row.version_count
        keys = set(connection.execute(select(versions.c.version_key).where(where)).scalars())
        assert (row.latest_version_key in keys) if keys else row.latest_version_key is None
