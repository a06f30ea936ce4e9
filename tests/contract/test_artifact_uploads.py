"""ArtifactStore: uploads of contents, on memory, SQLite and PostgreSQL. Each case cites the sentence of the port it checks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runyard_server.storage.memory.artifacts import MemoryArtifactStore
from runyard_server.storage.ports.artifacts import ArtifactStore
from runyard_server.storage.sql.artifacts import SqlArtifactStore
from tests.contract.artifact_store import (
    PROJECT,
    audit,
    batch_of,
    content_of,
    draft_of,
    upload_of,
)
from tests.contract.databases import DATABASES, open_database


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    async with open_database(request, tmp_path) as database:
        yield MemoryArtifactStore() if database is None else SqlArtifactStore(database)
        if database is not None:
            await audit(database)


async def released_keys(store: ArtifactStore) -> set[str]:
    return {item.object_key for item in await store.list_released(limit=1_000)}


async def test_uploads_come_back_as_they_were(store: ArtifactStore) -> None:
    """Returns the uploads that are there, complete or not; the draft's open ones by content, the newest of each."""
    draft = await store.create_draft(draft_of("d1", "net", {"a": "1", "b": "2"}))
    await store.add_entries("d1", batch_of({"a": "1", "b": "2"}), entries_max=9, time_unix_ns=6)
    old = upload_of(draft, "1", number=1, time=10)
    new = upload_of(draft, "1", number=2, time=20)
    other = upload_of(draft, "2", number=3, time=15)
    await store.insert_uploads([old, new, other])
    await store.insert_uploads([])
    assert [old] == await store.find_uploads(["d1-u1", "unknown"])
    ids = [content_of("1"), content_of("2"), content_of("3")]
    assert {content_of("1"): new, content_of("2"): other} == await store.find_open_uploads(
        "d1", ids
    )
    assert await store.find_open_uploads("d2", ids) == {}
    assert await store.find_contents(PROJECT, ids) == {content_of("1"): None, content_of("2"): None}
    assert await store.find_contents("local/q", ids) == {}
    assert await store.complete_uploads(["d1-u2"], time_unix_ns=30) == {"d1-u2"}
    assert {content_of("1"): old, content_of("2"): other} == await store.find_open_uploads(
        "d1", ids
    )
    assert (await store.find_contents(PROJECT, ids))[content_of("1")] == new.object_key
    renewed = await store.renew_uploads("d1", ["d1-u1", "d1-u2", "x"], time_unix_ns=40)
    assert renewed == {"d1-u1"}
    assert await store.renew_uploads("d1", [], time_unix_ns=40) == set()
    found = await store.list_uploads(created_before_unix_ns=40, limit=9)
    assert [one.upload_id for one in found] == ["d1-u3", "d1-u2"]


async def test_only_one_upload_gives_a_content_its_object(store: ArtifactStore) -> None:
    """The object of an upload whose content has one already, or that nothing refers to any more, is released."""
    draft = await store.create_draft(draft_of("d1", "net", {"a": "1"}))
    await store.add_entries("d1", batch_of({"a": "1"}), entries_max=9, time_unix_ns=6)
    uploads = [upload_of(draft, "1", number=n) for n in range(4)]
    await store.insert_uploads(uploads)
    assert await store.complete_uploads(["d1-u0", "x"], time_unix_ns=7) == {"d1-u0"}
    for _ in range(2):
        done = await store.complete_uploads(["d1-u0", "d1-u1"], time_unix_ns=7)
        assert done == {"d1-u0", "d1-u1"}
        assert await released_keys(store) == {uploads[1].object_key}
    assert await store.delete_draft("d1", used_before_unix_ns=None)
    assert await released_keys(store) == {uploads[0].object_key, uploads[1].object_key}
    assert await store.complete_uploads(["d1-u0", "d1-u2"], time_unix_ns=8) == set()
    for number in (0, 1, 2, 3, 3):
        await store.delete_upload(f"d1-u{number}")
    assert await released_keys(store) == {upload.object_key for upload in uploads}
    assert await store.complete_uploads(["d1-u0"], time_unix_ns=9) == set()
