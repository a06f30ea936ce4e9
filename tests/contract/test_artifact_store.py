"""ArtifactStore: memory, SQLite and PostgreSQL keep the same promises. Each case cites the sentence of the port it checks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runyard_server.domain.artifacts import Labels, LinkKind, VersionChange, VersionName
from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.artifacts import MemoryArtifactStore
from runyard_server.storage.ports.artifacts import ArtifactStore
from runyard_server.storage.ports.files import ReleasedObject
from runyard_server.storage.sql.artifacts import SqlArtifactStore
from tests.contract.artifact_store import (
    PROJECT,
    RUN,
    audit,
    batch_of,
    commit,
    content_of,
    draft_of,
    log,
    name_of,
    send,
    upload_of,
)
from tests.contract.databases import DATABASES, open_database

NET = name_of("net")


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    async with open_database(request, tmp_path) as database:
        yield MemoryArtifactStore() if database is None else SqlArtifactStore(database)
        if database is not None:
            await audit(database)


async def released_keys(store: ArtifactStore) -> set[str]:
    return {item.object_key for item in await store.list_released(limit=1_000)}


async def refusal(call: object) -> str:
    with pytest.raises(DomainError) as caught:
        await call  # type: ignore[misc]  # a coroutine
    return caught.value.reason


async def paths_of(store: ArtifactStore, number: int, **options: object) -> list[str]:
    asked = {"prefix": "", "after_path": "", "limit": 10_000, "with_objects": False} | options
    page = await store.list_entries(NET, number, **asked)  # type: ignore[arg-type]  # options of list_entries
    assert page is not None
    return [one.entry.path for one in page.entries]


async def test_a_draft_is_found_by_its_request(store: ArtifactStore) -> None:
    """Adds a draft and returns it, or the one that this run began with this request_id, with the version it became."""
    files = {"a": "1"}
    draft = draft_of("d1", "net", files)
    assert draft == await store.create_draft(draft)
    assert draft == await store.create_draft(replace(draft, draft_id="d2"))
    assert draft == await store.find_draft("d1")
    assert await store.find_draft("d2") is None
    other = replace(draft_of("d3", "net", files), request_id=draft.request_id, run_key=RunKey(4))
    assert other == await store.create_draft(other)
    await send(store, draft, files)
    version, _ = await commit(store, "d1")
    again = await store.create_draft(replace(draft, draft_id="d2"))
    assert (again.draft_id, again.version) == ("d1", version)


async def test_what_was_deleted_does_not_come_back(store: ArtifactStore) -> None:
    """Raises NotFound ARTIFACT_NOT_FOUND (what it became was deleted)."""
    await log(store, "net", {"a": "1"}, draft_id="d1")
    await store.delete_versions(NET, [0], with_aliases=True)
    draft = draft_of("d1", "net", {"a": "1"})
    assert await refusal(store.create_draft(draft)) == "ARTIFACT_NOT_FOUND"
    assert await refusal(store.find_draft("d1")) == "ARTIFACT_NOT_FOUND"
    assert await refusal(commit(store, "d1")) == "ARTIFACT_NOT_FOUND"
    await log(store, "net", {"a": "2"}, draft_id="d2")
    assert await refusal(store.find_draft("d1")) == "ARTIFACT_NOT_FOUND"


async def test_a_name_has_one_type(store: ArtifactStore) -> None:
    """Raises ARTIFACT_TYPE_MISMATCH, at the start and at the commit; a name without versions is free."""
    late = await store.create_draft(draft_of("d0", "net", {}, type="dataset"))
    await log(store, "net", {"a": "1"}, draft_id="d1")
    ask = draft_of("d2", "net", {"a": "2"}, type="dataset")
    assert await refusal(store.create_draft(ask)) == "ARTIFACT_TYPE_MISMATCH"
    assert await refusal(commit(store, late.draft_id)) == "ARTIFACT_TYPE_MISMATCH"
    await store.delete_versions(NET, [0], with_aliases=True)
    version, _ = await commit(store, late.draft_id)
    assert (version.type, version.number, version.entry_count) == ("dataset", 1, 0)


async def test_entries_tell_what_is_missing(store: ArtifactStore) -> None:
    """Adds a batch, which from now on keeps its contents; returns the ids of those whose bytes have not arrived."""
    await log(store, "net", {"a": "1"}, draft_id="d1")
    files = {"a": "1", "b": "2", "c": "2", "r": "s3://x"}
    draft = await store.create_draft(draft_of("d2", "net", files))
    for _ in range(2):
        missing = await store.add_entries("d2", batch_of(files), entries_max=4, time_unix_ns=6)
        assert missing == {content_of("2")}
    await store.delete_versions(NET, [0], with_aliases=True)
    assert await released_keys(store) == set()
    reason = await refusal(
        store.add_entries("d2", batch_of({"d": "3"}), entries_max=4, time_unix_ns=6)
    )
    assert reason == "FIELD_TOO_LARGE"
    await send(store, draft, files)
    version, _ = await commit(store, "d2")
    # "1" was in a version that is gone: nobody has it before this one.
    assert (version.number, version.size_bytes, version.added_bytes) == (1, 3, 2)
    reason = await refusal(store.add_entries("d2", batch_of(files), entries_max=9, time_unix_ns=9))
    assert reason == "DRAFT_COMMITTED"
    reason = await refusal(store.add_entries("d9", batch_of(files), entries_max=9, time_unix_ns=9))
    assert reason == "DRAFT_NOT_FOUND"


async def test_a_later_batch_replaces_entries(store: ArtifactStore) -> None:
    """What the draft holds: its batches, the older first; a batch that is there already becomes the newest."""
    draft = await store.create_draft(draft_of("d1", "net", {"a": "1", "b": "2"}))
    await send(store, draft, {"a": "1"})
    await send(store, draft, {"a": "wrong", "b": "2"})
    assert len((await store.read_entries("d1")).batches) == 2
    await send(store, draft, {"a": "1"})
    version, _ = await commit(store, "d1")
    assert (version.entry_count, version.digest) == (2, draft.digest)
    assert len(await released_keys(store)) == 1


async def test_a_commit_waits_for_all_contents(store: ArtifactStore) -> None:
    """Raises CONTENT_MISSING; nothing is visible before, and the next try succeeds."""
    draft = await store.create_draft(draft_of("d1", "net", {"a": "1", "b": "2"}))
    await store.add_entries("d1", batch_of({"a": "1", "b": "2"}), entries_max=9, time_unix_ns=6)
    upload = upload_of(draft, "1", number=1)
    await store.insert_uploads([upload])
    await store.complete_uploads([upload.upload_id], time_unix_ns=6)
    assert await refusal(commit(store, "d1")) == "CONTENT_MISSING"
    assert await store.list_artifacts(
        PROJECT, type="", name_contains="", after_name="", limit=9
    ) == ([], 0)
    assert await store.find_version(VersionName(NET)) is None
    await send(store, draft, {"b": "2"})
    assert (await commit(store, "d1"))[0].number == 0


async def test_entries_added_meanwhile_are_seen(store: ArtifactStore) -> None:
    """None if entries were added since `revision`."""
    draft = await store.create_draft(draft_of("d1", "net", {"a": "1"}))
    await send(store, draft, {"a": "1"})
    done = await store.commit_draft("d1", Labels(), manifest=None, revision=0, time_unix_ns=7)
    assert done is None


async def test_the_same_entries_make_no_new_version(store: ArtifactStore) -> None:
    """Finds the artifact's version with its digest; aliases and LATEST move to it, tags are added, the later time wins."""
    first = await log(
        store,
        "net",
        {"a": "1"},
        draft_id="d1",
        labels=Labels(("x",), ("t", "u"), 100),
    )
    second = await log(store, "net", {"a": "2"}, draft_id="d2", labels=Labels(("x", "y")))
    assert (first.number, second.number) == (0, 1)
    assert second.aliases == ("latest", "x", "y")
    draft = await store.create_draft(draft_of("d3", "net", {"a": "1"}, run_key=RunKey(3)))
    assert draft.is_present
    found, is_unchanged = await commit(store, "d3", Labels(("y",), ("u", "v"), 50), time=9)
    assert is_unchanged
    assert (found.number, found.aliases, found.tags) == (0, ("latest", "y"), ("t", "u", "v"))
    assert (found.expire_time_unix_ns, found.logged_by) == (100, first.logged_by)
    links = await store.list_links(run_keys=[RunKey(3)], version_ids=[], limit=9)
    assert [(link.version_id, link.kind) for link in links] == [(first.version_id, LinkKind.LOGGED)]
    assert (found, True) == await commit(store, "d3", Labels(("z",)))
    forever = await log(store, "net", {"a": "1"}, draft_id="d4")
    assert forever.expire_time_unix_ns is None
    assert (await store.list_versions(NET, before=None, limit=9))[1] == 2


async def test_a_draft_keeps_the_manifest_it_was_told_of(store: ArtifactStore) -> None:
    """`is_present` tells whether the project has a manifest of this digest; the draft then refers to it."""
    files = {"a": "1", "b": "2"}
    await log(store, "net", files, draft_id="d1")
    draft = await store.create_draft(draft_of("d2", "net", files))
    assert draft.is_present
    deletion = await store.delete_versions(NET, [0], with_aliases=True)
    assert (deletion.versions, deletion.released, deletion.shared_bytes) == (1, [], 2)
    version, is_unchanged = await commit(store, "d2")
    assert (version.number, is_unchanged, version.entry_count) == (1, False, 2)
    assert await paths_of(store, 1) == ["a", "b"]
    other = await log(store, "copy", files, draft_id="d3")
    assert (other.number, other.added_bytes) == (0, 0)
    elsewhere = await store.create_draft(draft_of("d4", "net", files, project="local/q"))
    assert not elsewhere.is_present


async def test_numbers_are_not_given_again(store: ArtifactStore) -> None:
    """Also when all versions are gone; LATEST moves to the highest number that is left."""
    for number in range(3):
        await log(store, "net", {"a": str(number)}, draft_id=f"d{number}")
    await store.delete_versions(NET, [2], with_aliases=False)
    latest = await store.find_version(VersionName(NET))
    assert latest is not None
    assert (latest.number, latest.aliases) == (1, ("latest",))
    await store.delete_versions(NET, [0, 1, 7], with_aliases=False)
    assert await store.find_version(VersionName(NET)) is None
    assert await store.has_artifact(NET)
    assert not await store.has_artifact(name_of("other"))
    assert (await log(store, "net", {"a": "1"}, draft_id="d9")).number == 3


async def test_deleting_frees_what_nothing_else_refers_to(store: ArtifactStore) -> None:
    """What loses its last reference loses its object in the same step; shared bytes are counted once."""
    await log(store, "net", {"a": "one", "b": "both!", "c": "both!"}, draft_id="d1")
    await log(store, "net", {"a": "two", "b": "both!"}, draft_id="d2")
    await log(store, "other", {"z": "both!"}, draft_id="d3", project="local/q")
    deletion = await store.delete_versions(NET, [0], with_aliases=False)
    assert (deletion.versions, deletion.entries, deletion.shared_bytes) == (1, 3, 5)
    assert [size for _, size in deletion.released] == [3]
    assert {key for key, _ in deletion.released} == await released_keys(store)
    deletion = await store.delete_versions(NET, [0, 1], with_aliases=False)
    assert (deletion.versions, deletion.entries, deletion.shared_bytes) == (1, 2, 0)
    assert sorted(size for _, size in deletion.released) == [3, 5]
    released = await store.list_released(limit=9)
    assert len(released) == 3
    assert all(isinstance(item, ReleasedObject) for item in released)
    await store.confirm_released([item.object_key for item in released])
    assert await store.list_released(limit=9) == []


async def test_bytes_shared_within_one_deletion_are_freed(store: ArtifactStore) -> None:
    """Contents that only removed versions share are not left: they are freed with the last of them."""
    await log(store, "net", {"a": "one", "b": "both!"}, draft_id="d1")
    await log(store, "net", {"a": "two", "b": "both!"}, draft_id="d2")
    deletion = await store.delete_versions(NET, [0, 1], with_aliases=False)
    assert (deletion.versions, deletion.shared_bytes) == (2, 0)
    assert sorted(size for _, size in deletion.released) == [3, 3, 5]


async def test_aliases_protect_a_version(store: ArtifactStore) -> None:
    """Raises ARTIFACT_HAS_ALIASES without `with_aliases`; versions before that one are then gone."""
    await log(store, "net", {"a": "1"}, draft_id="d1")
    await log(store, "net", {"a": "2"}, draft_id="d2", labels=Labels(("best",)))
    reason = await refusal(store.delete_versions(NET, [0, 1], with_aliases=False))
    assert reason == "ARTIFACT_HAS_ALIASES"
    assert [v.number for v in (await store.list_versions(NET, before=None, limit=9))[0]] == [1]
    assert (await store.delete_versions(NET, [1], with_aliases=True)).versions == 1
    assert await store.find_version(VersionName(NET, alias="best")) is None


async def test_versions_expire_unless_they_have_aliases(store: ArtifactStore) -> None:
    """Returns versions that expire until that time and have no aliases but LATEST; the others are passed over."""
    for number, (labels, _) in enumerate(
        [
            (Labels(expire_time_unix_ns=10), "goes"),
            (Labels(("keep",), expire_time_unix_ns=10), "has an alias"),
            (Labels(expire_time_unix_ns=30), "is not due"),
            (Labels(), "never"),
            (Labels(expire_time_unix_ns=20), "goes, though latest"),
        ]
    ):
        await log(store, "net", {"a": str(number)}, draft_id=f"d{number}", labels=labels)
    assert await store.list_expired(expired_by_unix_ns=20, limit=9) == [(NET, 0), (NET, 4)]
    assert await store.list_expired(expired_by_unix_ns=20, limit=1) == [(NET, 0)]
    deletion = await store.delete_versions(
        NET, [0, 1, 2, 3, 4], with_aliases=False, expired_by_unix_ns=20
    )
    assert deletion.versions == 2
    left, _ = await store.list_versions(NET, before=None, limit=9)
    assert [(v.number, "latest" in v.aliases) for v in left] == [(3, True), (2, False), (1, False)]


async def test_a_version_changes_in_one_step(store: ArtifactStore) -> None:
    """Changes a version and returns it, None if there is none. Aliases leave the versions that they pointed to."""
    await log(store, "net", {"a": "1"}, draft_id="d1", labels=Labels(("x", "y"), ("t",), 50))
    await log(store, "net", {"a": "2"}, draft_id="d2")
    change = VersionChange(
        80,
        description="words",
        metadata_json='{"a":1}',
        add_aliases=("y", "z"),
        remove_aliases=("x", "unknown"),
        add_tags=("n",),
        is_expiry_set=True,
        expire_time_unix_ns=90,
    )
    changed = await store.update_version(VersionName(NET), change)
    assert changed is not None
    assert (changed.number, changed.aliases, changed.tags) == (1, ("latest", "y", "z"), ("n",))
    assert (changed.description, changed.metadata_json) == ("words", '{"a":1}')
    assert (changed.update_time_unix_ns, changed.expire_time_unix_ns) == (80, 90)
    assert changed == await store.find_version(VersionName(NET, alias="z"))
    first = await store.find_version(VersionName(NET, 0))
    assert first is not None
    assert (first.aliases, first.tags, first.expire_time_unix_ns) == (("x",), ("t",), 50)
    kept = await store.update_version(
        VersionName(NET, alias="x"), VersionChange(81, remove_tags=("t",), remove_aliases=("x",))
    )
    assert kept == replace(first, aliases=(), tags=(), update_time_unix_ns=81)
    assert await store.update_version(VersionName(NET, 9), VersionChange(82)) is None
    many = VersionChange(83, add_tags=tuple(f"t{n}" for n in range(101)))
    assert await refusal(store.update_version(VersionName(NET), many)) == "FIELD_TOO_LARGE"


async def test_artifacts_are_listed_by_name(store: ArtifactStore) -> None:
    """Returns artifacts that have versions, by the bytes of their names; and how many match in all."""
    for number, name in enumerate(["b", "B_1", "a%", "a-net", "NET", "gone"]):
        await log(store, name, {"a": str(number)}, draft_id=f"d{number}")
    await store.delete_versions(name_of("gone"), [0], with_aliases=False)
    await store.create_draft(draft_of("d9", "draft", {"a": "1"}))

    async def names(**options: object) -> tuple[list[str], int]:
        asked = {"type": "", "name_contains": "", "after_name": "", "limit": 9} | options
        found, count = await store.list_artifacts(PROJECT, **asked)  # type: ignore[arg-type]  # options of list_artifacts
        assert all(row.latest.metadata_json == "" for row in found)
        return [row.latest.artifact.name for row in found], count

    assert await names() == (["B_1", "NET", "a%", "a-net", "b"], 5)
    assert await names(after_name="NET", limit=2) == (["a%", "a-net"], 5)
    assert await names(name_contains="Net") == (["NET", "a-net"], 2)
    assert await names(name_contains="%") == (["a%"], 1)
    assert await names(name_contains="_") == (["B_1"], 1)
    assert await names(type="dataset") == ([], 0)
    await log(store, "b", {"a": "x"}, draft_id="d7")
    found, _ = await store.list_artifacts(
        PROJECT, type="model", name_contains="b", after_name="b"[:0] + "a-net", limit=1
    )
    assert (found[0].latest.number, found[0].version_count) == (1, 2)


async def test_versions_are_listed_newest_first(store: ArtifactStore) -> None:
    """Returns versions, the newest first, those before number `before`; and how many there are in all."""
    for number in range(4):
        await log(store, "net", {"a": str(number)}, draft_id=f"d{number}")
    await store.delete_versions(NET, [2], with_aliases=False)
    found, count = await store.list_versions(NET, before=None, limit=2)
    assert ([version.number for version in found], count) == ([3, 1], 3)
    found, count = await store.list_versions(NET, before=1, limit=2)
    assert ([version.number for version in found], count) == ([0], 3)
    assert await store.list_versions(name_of("other"), before=None, limit=2) == ([], 0)


async def test_entries_come_in_pages(store: ArtifactStore) -> None:
    """Returns entries whose paths begin with `prefix`, those after `after_path`; and how many there are in all."""
    folders = ("a", "a-b", "a.b", "b", "ä", "\U0010ffff", "c%")
    files = {f"{folder}/{n}": f"{folder} {n % 7}" for folder in folders for n in range(150)}
    files |= {"a!": "x", "z": "s3://bucket/z"}
    await log(store, "net", files, draft_id="d1")
    ordered = sorted(files, key=str.encode)
    assert ordered == await paths_of(store, 0)
    for prefix in ("", "a", "a/", "a/1", "a-", "b/", "ä/", "\U0010ffff/", "c%", "c_", "z", "zz"):
        wanted = [path for path in ordered if path.startswith(prefix)]
        found: list[str] = []
        while part := await paths_of(
            store, 0, prefix=prefix, after_path=found[-1] if found else "", limit=97
        ):
            found += part
        assert wanted == found
        page = await store.list_entries(
            NET, 0, prefix=prefix, after_path="", limit=1, with_objects=False
        )
        assert page is not None
        assert len(wanted) == page.total_count
    assert (
        await store.list_entries(NET, 1, prefix="", after_path="", limit=1, with_objects=True)
        is None
    )


async def test_entries_know_their_objects(store: ArtifactStore) -> None:
    """An entry of a version, and where its bytes lie; no object for references."""
    await log(store, "net", {"a": "1", "b": "1", "r": "s3://x"}, draft_id="d1")
    page = await store.list_entries(NET, 0, prefix="", after_path="", limit=9, with_objects=True)
    assert page is not None
    first, second, reference = (one.object_key for one in page.entries)
    assert (
        first == second == (await store.find_contents(PROJECT, [content_of("1")]))[content_of("1")]
    )
    assert reference == ""
    assert page.entries[2].entry.reference == "s3://x"


async def test_drafts_are_forgotten_when_nobody_uses_them(store: ArtifactStore) -> None:
    """Forgets a draft and what it refers to, unless it was used since; every step of an upload is a use."""
    drafts = [
        await store.create_draft(draft_of(f"d{n}", "net", {"a": "1"}, time=n)) for n in range(5)
    ]
    await store.add_entries("d1", batch_of({"a": "1"}), entries_max=9, time_unix_ns=50)
    upload = upload_of(drafts[2], "1", number=1)
    await store.insert_uploads([upload])
    await store.renew_uploads("d2", [], time_unix_ns=51)
    await log(store, "other", {"a": "1"}, draft_id="d7", time=20)
    old = await store.list_drafts(used_before_unix_ns=50, limit=9)
    assert [draft.draft_id for draft in old] == ["d0", "d3", "d4", "d7"]
    assert [d.draft_id for d in await store.list_drafts(used_before_unix_ns=50, limit=1)] == ["d0"]
    assert not await store.delete_draft("d1", used_before_unix_ns=50)
    assert await store.delete_draft("d1", used_before_unix_ns=51)
    assert not await store.delete_draft("d1", used_before_unix_ns=51)
    assert await store.delete_draft("d7", used_before_unix_ns=50)
    assert await store.find_draft("d7") is None
    version = await store.find_version(VersionName(name_of("other")))
    assert version is not None
    assert await released_keys(store) == set()
    assert await store.complete_uploads([upload.upload_id], time_unix_ns=60) == {upload.upload_id}
    assert not await store.delete_draft("d2", used_before_unix_ns=60)
    assert await store.delete_draft("d2", used_before_unix_ns=61)


async def test_runs_are_linked_once(store: ArtifactStore) -> None:
    """Links a run to a version, once, and returns the version; links are listed the oldest first."""
    made = await log(store, "net", {"a": "1"}, draft_id="d1", time=10)
    for time in (20, 30):
        version = await store.link_run(
            VersionName(NET), run_key=RunKey(3), run_path="p", kind=LinkKind.USED, time_unix_ns=time
        )
        assert version == made
    found = await store.list_links(run_keys=[], version_ids=[made.version_id], limit=9)
    assert [(link.run_key, link.kind, link.create_time_unix_ns) for link in found] == [
        (RUN, LinkKind.LOGGED, 10),
        (RunKey(3), LinkKind.USED, 20),
    ]
    assert found[:1] == await store.list_links(
        run_keys=[RUN, RunKey(3)], version_ids=[made.version_id], limit=1
    )
    assert await store.list_links(run_keys=[RunKey(9)], version_ids=[], limit=9) == []
    assert {made.version_id: replace(made, metadata_json="")} == await store.read_versions(
        [made.version_id, 999_999]
    )
    missing = await store.link_run(
        VersionName(NET, 9), run_key=RUN, run_path="p", kind=LinkKind.USED, time_unix_ns=1
    )
    assert missing is None
    await store.delete_versions(NET, [0], with_aliases=False)
    assert await store.list_links(run_keys=[RUN, RunKey(3)], version_ids=[], limit=9) == []


async def test_a_purged_run_is_forgotten(store: ArtifactStore) -> None:
    """Forgets a run: its links, its drafts, and that it logged versions. Safe to repeat."""
    made = await log(store, "net", {"a": "1"}, draft_id="d1")
    await log(store, "other", {"a": "2"}, draft_id="d2", run_key=RunKey(3))
    draft = await store.create_draft(draft_of("d3", "net", {"a": "3"}))
    await send(store, draft, {"a": "3"})
    assert await store.purge_run(RUN) == 3
    assert await store.purge_run(RUN) == 0
    found = await store.find_version(VersionName(NET))
    assert found == replace(made, logged_by="")
    assert await store.find_draft("d3") is None
    assert len(await released_keys(store)) == 1
    assert len(await store.list_links(run_keys=[RUN, RunKey(3)], version_ids=[], limit=9)) == 1
