"""Artifacts over the memory stores: logging, what is refused, reading, changing, deleting."""

from __future__ import annotations

import json

import pytest

from runyard_server.domain.artifacts import VersionChange
from runyard_server.domain.errors import DomainError, Unavailable
from runyard_server.domain.manifests import Entry
from runyard_server.files.service import FilesConfig
from runyard_server.storage.ports.artifacts import DraftEntries
from tests.unit.files.artifact_desk import ArtifactDesk, ask, digest_of, make_entries

DAY_S = 86_400


async def refusal(call: object) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await call  # type: ignore[misc]  # a coroutine
    return caught.value


async def test_what_is_there_is_not_sent_again() -> None:
    """Files that did not change are stored and sent once, across versions, names and paths."""
    desk = ArtifactDesk()
    first = await desk.log("net", {"a": b"one", "b": b"same"})
    assert (first.sent, first.version.number, first.version.added_bytes) == (("a", "b"), 0, 7)
    second = await desk.log("net", {"a": b"two", "c/b": b"same"})
    assert (second.sent, second.version.number, second.version.added_bytes) == (("a",), 1, 3)
    assert (await desk.log("data", {"x": b"one"})).sent == ()
    assert await desk.stored_bytes() == [b"one", b"same", b"two"]
    assert await desk.load_artifact("local/p/net:v1") == {"a": b"two", "c/b": b"same"}
    assert await desk.load_artifact("local/p/net") == {"a": b"two", "c/b": b"same"}
    assert await desk.load_artifact("local/p/data:latest") == {"x": b"one"}


async def test_an_unchanged_artifact_makes_no_version() -> None:
    """The version that has these entries is found; aliases and latest move to it."""
    desk = ArtifactDesk()
    await desk.log("net", {"a": b"1"}, aliases=["best"])
    await desk.log("net", {"a": b"2"}, aliases=["best"])
    again = await desk.log("net", {"a": b"1"}, aliases=["best"], tags=["t"])
    assert (again.is_unchanged, again.sent) == (True, ())
    assert (again.version.number, again.version.aliases) == (0, ("latest", "best"))
    assert again.version == await desk.service.artifacts.get("local/p/net:best")
    page = await desk.service.artifacts.list_versions("local/p/net", page_size=0, page_token="")
    assert [(v.number, v.aliases) for v in page.rows] == [(1, ()), (0, ("latest", "best"))]


async def test_a_killed_client_goes_on() -> None:
    """The same request_id gives the same draft; what has arrived is named; the commit answers as the first time."""
    desk = ArtifactDesk()
    files = {"a": b"one", "b": b"two", "c": b"three"}
    entries = make_entries(files)
    first = await desk.begin("net", entries, request_id="r")
    await desk.add(first.draft_id, entries)
    await desk.upload(first.draft_id, [b"one"])
    (planned,) = await desk.service.contents.create(first.draft_id, [ask(b"two")])
    upload_id, etags = desk.put(planned, b"two")  # Killed before it was completed.
    again = await desk.begin("net", entries, request_id="r")
    assert again == first
    missing = await desk.add(again.draft_id, entries)
    assert [entry.path for entry in missing] == ["b", "c"]
    two, three = await desk.service.contents.create(again.draft_id, [ask(b"two"), ask(b"three")])
    assert two.upload is not None
    assert (two.upload.upload_id, list(two.part_etags)) == (upload_id, [etags[0].strip('"')])
    assert three.part_etags == ()
    await desk.service.contents.complete([(upload_id, two.part_etags), desk.put(three, b"three")])
    await desk.service.contents.complete([(upload_id, two.part_etags)])
    commit = desk.service.drafts.commit
    done = await commit(first.draft_id, aliases=["x"], tags=[], ttl_s=0)
    assert done == await commit(first.draft_id, aliases=["y"], tags=[], ttl_s=9)
    assert (await desk.begin("net", entries, request_id="r")).version == done[0]
    assert await desk.load_artifact("local/p/net") == files


async def test_a_repeat_meets_the_commit_halfway() -> None:
    """A commit that finds the draft open, and its entries gone since the first one is done, answers as that did."""
    desk = ArtifactDesk()
    entries = make_entries({"a": b""})
    draft = await desk.begin("net", entries)
    await desk.add(draft.draft_id, entries)
    await desk.upload(draft.draft_id, [b""])
    commit = desk.service.drafts.commit
    read_entries = desk.artifacts.read_entries
    first = []

    async def read_late(draft_id: str) -> DraftEntries:
        desk.artifacts.read_entries = read_entries  # type: ignore[method-assign]  # once
        first.append(await commit(draft_id, aliases=[], tags=[], ttl_s=0))
        return await read_entries(draft_id)

    desk.artifacts.read_entries = read_late  # type: ignore[method-assign]  # the moment between
    assert [await commit(draft.draft_id, aliases=[], tags=[], ttl_s=0)] == first


async def test_a_large_content_goes_in_parts_and_goes_on() -> None:
    """Parts that have arrived are named and need no sending; a content that was cut otherwise begins anew."""
    desk = ArtifactDesk()
    size = 5 * 1024**2
    content = bytes(range(256)) * (2 * size // 256) + b"tail"
    entries = make_entries({"big": content})
    draft = await desk.begin("net", entries)
    await desk.add(draft.draft_id, entries)
    (planned,) = await desk.service.contents.create(draft.draft_id, [ask(content, part_bytes=size)])
    assert planned.upload is not None
    assert (planned.upload.part_count, planned.upload.part_bytes) == (3, size)
    desk.blobs.answer("PUT", planned.part_urls[1], content[size : 2 * size])
    desk.blobs.answer("PUT", planned.part_urls[2], b"wrong")
    (again,) = await desk.service.contents.create(draft.draft_id, [ask(content, part_bytes=size)])
    assert [bool(etag) for etag in again.part_etags] == [False, True, False]
    await desk.service.contents.complete([desk.put(again, content)])
    await desk.service.drafts.commit(draft.draft_id, aliases=[], tags=[], ttl_s=0)
    assert await desk.load_artifact("local/p/net") == {"big": content}
    other = await desk.begin("other", make_entries({"big": content + b"x"}))
    await desk.add(other.draft_id, make_entries({"big": content + b"x"}))
    for wanted in (size, size + 1024**2):
        (planned,) = await desk.service.contents.create(
            other.draft_id, [ask(content + b"x", part_bytes=wanted)]
        )
        assert planned.upload is not None and planned.upload.part_bytes == wanted
        assert not any(planned.part_etags)


async def test_other_bytes_than_announced_are_refused() -> None:
    """Sizes and MD5s are checked; the others of the request are taken all the same."""
    desk = ArtifactDesk()
    entries = make_entries({"a": b"hello", "b": b"other"})
    draft = await desk.begin("net", entries)
    await desk.add(draft.draft_id, entries)
    bad, good = await desk.service.contents.create(draft.draft_id, [ask(b"hello"), ask(b"other")])
    sent = [desk.put(bad, b"HELLO"), desk.put(good, b"other"), ("unknown", ['"e"'])]
    error = await refusal(desk.service.contents.complete(sent))
    assert error.reason == "FILE_CONTENT_MISMATCH"
    missing = await desk.add(draft.draft_id, entries)
    assert [entry.path for entry in missing] == ["a"]
    error = await refusal(desk.service.contents.complete(sent[1:]))
    assert (error.reason, error.metadata["upload"]) == ("UPLOAD_NOT_FOUND", "unknown")


async def test_contents_belong_to_entries() -> None:
    """What no entry refers to is not taken: nothing would keep it."""
    desk = ArtifactDesk()
    draft = await desk.begin("net", make_entries({"a": b"1"}))
    error = await refusal(desk.service.contents.create(draft.draft_id, [ask(b"1")]))
    assert (error.reason, error.metadata["field"]) == ("FIELD_INVALID", "contents")
    error = await refusal(desk.service.contents.create("nobody", [ask(b"1")]))
    assert error.reason == "DRAFT_NOT_FOUND"
    await desk.add(draft.draft_id, make_entries({"a": b"1"}))
    twice = await desk.service.contents.create(draft.draft_id, [ask(b"1"), ask(b"1")])
    assert twice[0] == twice[1]
    error = await refusal(desk.service.contents.create(draft.draft_id, [ask(b"1")] * 1001))
    assert (error.reason, error.metadata["limit"]) == ("FIELD_TOO_LARGE", "1000")
    await desk.upload(draft.draft_id, [b"1"])
    await desk.service.drafts.commit(draft.draft_id, aliases=[], tags=[], ttl_s=0)
    error = await refusal(desk.service.contents.create(draft.draft_id, [ask(b"1")]))
    assert error.reason == "DRAFT_COMMITTED"


async def test_a_manifest_must_be_what_was_announced() -> None:
    """Count and digest are checked; an entry that is the folder of another is refused."""
    desk = ArtifactDesk()
    entries = make_entries({"a": b"", "b": b""})
    commit = desk.service.drafts.commit
    for added, field in (
        (entries[:1], "entry_count"),
        (make_entries({"a": b"", "c": b""}), "digest"),
    ):
        draft = await desk.begin("net", entries)
        await desk.add(draft.draft_id, added)
        error = await refusal(commit(draft.draft_id, aliases=[], tags=[], ttl_s=0))
        assert (error.reason, error.metadata["field"]) == ("FILE_CONTENT_MISMATCH", field)
    nested = make_entries({"a": b"", "a!": b"", "a/b/c": b""})
    draft = await desk.begin("net", nested)
    await desk.add(draft.draft_id, nested)
    error = await refusal(commit(draft.draft_id, aliases=[], tags=[], ttl_s=0))
    assert (error.reason, error.metadata["value"]) == ("FIELD_INVALID", "a")


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (Entry("", 0, b"s" * 32), "path"),
        (Entry("/a", 0, b"s" * 32), "path"),
        (Entry("a//b", 0, b"s" * 32), "path"),
        (Entry("a/../b", 0, b"s" * 32), "path"),
        (Entry("./a", 0, b"s" * 32), "path"),
        (Entry("a\nb", 0, b"s" * 32), "path"),
        (Entry("a\0b", 0, b"s" * 32), "path"),
        (Entry("u\u0308", 0, b"s" * 32), "path"),
        (Entry("x" * 256, 0, b"s" * 32), "path"),
        (Entry("a/" * 512 + "b", 0, b"s" * 32), "path"),
        (Entry("a", 0, b"short"), "sha256"),
        (Entry("a", 0), "sha256"),
        (Entry("a", 0, b"s" * 32, etag="e"), "etag"),
        (Entry("a", 2**43, b"s" * 32), "size_bytes"),
        (Entry("a", 0, b"s" * 32, reference="s3://b/k"), "sha256"),
        (Entry("a", 0, reference="ftp://b/k"), "reference"),
        (Entry("a", 0, reference="s3://b/\n"), "reference"),
        (Entry("a", 0, reference="s3://" + "x" * 4092), "reference"),
        (Entry("a", 0, reference="s3://b", etag="\0"), "etag"),
        (Entry("a", 2**61, reference="s3://b"), "size_bytes"),
    ],
)
async def test_entries_that_cannot_be_are_refused(entry: Entry, field: str) -> None:
    """Names the field, its value and the limit."""
    desk = ArtifactDesk()
    draft = await desk.begin("net", make_entries({"a": b""}))
    error = await refusal(desk.service.drafts.add_entries(draft.draft_id, [entry]))
    assert error.reason in ("FIELD_INVALID", "FIELD_TOO_LARGE")
    assert error.metadata["field"] == field


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "ü"}, "name"),
        ({"name": ".."}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"type": ""}, "type"),
        ({"type": "t" * 129}, "type"),
        ({"type": "a\nb"}, "type"),
        ({"request_id": "r" * 129}, "request_id"),
        ({"metadata_json": "[]"}, "metadata_json"),
        ({"metadata_json": json.dumps({"a": "x" * 1024**2})}, "metadata_json"),
        ({"aliases": ["latest"]}, "aliases"),
        ({"aliases": ["v3"]}, "aliases"),
        ({"aliases": [""]}, "aliases"),
        ({"aliases": ["a b"]}, "aliases"),
        ({"aliases": [f"a{n}" for n in range(101)]}, "aliases"),
        ({"tags": [""]}, "tags"),
        ({"tags": ["x" * 129]}, "tags"),
        ({"ttl_s": 10**12}, "ttl_s"),
    ],
)
async def test_what_cannot_be_is_refused(options: dict[str, object], field: str) -> None:
    """Names of artifacts, types, aliases, tags and times have limits; the refusal names the field."""
    asked = {"name": "net", "files": {"a": b"1"}} | options
    error = await refusal(ArtifactDesk().log(**asked))  # type: ignore[arg-type]  # options of log
    assert error.reason in ("FIELD_INVALID", "FIELD_TOO_LARGE")
    assert error.metadata["field"] == field


async def test_a_request_id_is_of_one_artifact() -> None:
    """REQUEST_ID_REUSED (with another name, digest or count)."""
    desk = ArtifactDesk()
    await desk.begin("net", make_entries({"a": b"1"}), request_id="r")
    error = await refusal(desk.begin("net", make_entries({"a": b"2"}), request_id="r"))
    assert error.reason == "REQUEST_ID_REUSED"
    error = await refusal(desk.begin("other", make_entries({"a": b"1"}), request_id="r"))
    assert error.reason == "REQUEST_ID_REUSED"
    await desk.begin("net", make_entries({"a": b"2"}), request_id="r", run="local/p/y")


async def test_artifacts_have_limits() -> None:
    """More entries than one version may have, or one request, are refused with the limit."""
    desk = ArtifactDesk(FilesConfig(artifact_entries_max=2))
    error = await refusal(desk.begin("net", make_entries({"a": b"", "b": b"", "c": b""})))
    assert (error.reason, error.metadata["limit"]) == ("FIELD_TOO_LARGE", "2")
    draft = await desk.begin("net", make_entries({"a": b""}))
    many = make_entries({f"f{n}": b"" for n in range(2_001)})
    error = await refusal(desk.service.drafts.add_entries(draft.draft_id, many))
    assert (error.reason, error.metadata["limit"]) == ("FIELD_TOO_LARGE", "2000")
    for first in range(11):
        part = make_entries({f"{first}/{n}": b"" for n in range(2_000)})
        call = desk.service.drafts.add_entries(draft.draft_id, part)
        if first < 10:
            await call
        else:
            assert (await refusal(call)).metadata["field"] == "entries"


async def test_an_empty_artifact_is_one() -> None:
    """No entries are entries too, and references need no bytes."""
    desk = ArtifactDesk()
    empty = await desk.log("net", {})
    assert (empty.version.entry_count, empty.version.digest) == (0, digest_of([]))
    referring = await desk.log("net", {}, references={"r": "gs://b/k"})
    assert (referring.version.number, referring.version.size_bytes) == (1, 0)
    page = await desk.service.artifacts.list_entries(
        "local/p/net", prefix="", page_size=0, page_token="", with_urls=True, as_attachment=True
    )
    assert (page.urls, page.rows[0].reference) == ([""], "gs://b/k")


async def test_pages_of_entries_are_of_one_version() -> None:
    """A page token holds the version: an alias that moves between two pages does not mix them."""
    desk = ArtifactDesk()
    await desk.log("net", {f"f{n}": b"old" for n in range(5)})
    found: list[str] = []
    token = ""
    for round in range(3):
        page = await desk.service.artifacts.list_entries(
            "local/p/net",
            prefix="f",
            page_size=2,
            page_token=token,
            with_urls=False,
            as_attachment=False,
        )
        found += [entry.path for entry in page.rows]
        token = page.next_page_token
        assert page.total_count == 5
        await desk.log("net", {f"f{n}": b"%d" % round for n in range(9)})
    assert (found, token) == ([f"f{n}" for n in range(5)], "")


async def test_lists_come_in_pages() -> None:
    """Artifacts by name, versions from the newest; a page of versions ends where their metadata is too large."""
    desk = ArtifactDesk()
    for number in range(70):
        await desk.log("net", {"a": b"%d" % number}, metadata_json=json.dumps({"n": number}))
    await desk.log("b", {"a": b""})
    artifacts = desk.service.artifacts
    page = await artifacts.list_artifacts(
        "local/p", type="", name_contains="", page_size=1, page_token=""
    )
    assert (page.rows[0].latest.artifact.name, page.total_count) == ("b", 2)
    page = await artifacts.list_artifacts(
        "local/p", type="", name_contains="", page_size=1, page_token=page.next_page_token
    )
    assert (page.rows[0].version_count, page.next_page_token) == (70, "")
    numbers: list[int] = []
    token = ""
    while True:
        versions = await artifacts.list_versions("local/p/net", page_size=50, page_token=token)
        numbers += [version.number for version in versions.rows]
        token = versions.next_page_token
        if not token:
            break
    assert numbers == list(range(69, -1, -1))
    large = json.dumps({"a": "x" * (1024**2 - 100)})
    for number in range(10):
        await desk.log("large", {"a": b"%d" % number}, metadata_json=large)
    first = await artifacts.list_versions("local/p/large", page_size=0, page_token="")
    assert (len(first.rows), first.total_count) == (8, 10)
    rest = await artifacts.list_versions(
        "local/p/large", page_size=0, page_token=first.next_page_token
    )
    assert ([version.number for version in rest.rows], rest.next_page_token) == ([1, 0], "")


async def test_unknown_things_are_told() -> None:
    """Unknown projects, artifacts, versions and malformed paths have errors of their own."""
    desk = ArtifactDesk()
    artifacts = desk.service.artifacts
    asked = {"type": "", "name_contains": "", "page_size": 0, "page_token": ""}
    assert (await artifacts.list_artifacts("local/p", **asked)).rows == []  # type: ignore[arg-type]  # options
    error = await refusal(artifacts.list_artifacts("local/none", **asked))  # type: ignore[arg-type]  # options
    assert error.reason == "PROJECT_NOT_FOUND"
    await desk.log("net", {"a": b"1"})
    for path in ("local/p/none", "local/p/net:v1", "local/p/net:best", "local/q/net"):
        assert (await refusal(artifacts.get(path))).reason == "ARTIFACT_NOT_FOUND"
    for path in ("net", "local/p/net/x", "local//net", "local/p/net:", "local/p/net:a:b"):
        assert (await refusal(artifacts.get(path))).reason == "FIELD_INVALID"
    error = await refusal(artifacts.use("local/p/none", "local/p/net"))
    assert error.reason == "RUN_NOT_FOUND"
    error = await refusal(artifacts.list_versions("local/p/none", page_size=0, page_token=""))
    assert error.reason == "ARTIFACT_NOT_FOUND"


async def test_a_deletion_has_a_receipt() -> None:
    """Frees the bytes that no other version refers to; those that do not exist are passed over; a repeat frees nothing."""
    desk = ArtifactDesk()
    await desk.log("net", {"a": b"one", "b": b"same"})
    await desk.log("net", {"a": b"three", "b": b"same"}, aliases=["best"])
    delete = desk.service.artifacts.delete
    receipt = await delete(
        ["local/p/net:v0", "local/p/net:v9", "local/p/x:v0"], "", with_aliases=False
    )
    assert (receipt.versions, receipt.entries) == (1, 2)
    assert (receipt.freed_objects, receipt.freed_bytes, receipt.shared_bytes) == (1, 3, 4)
    assert await desk.stored_bytes() == [b"same", b"three"]
    error = await refusal(delete([], "local/p/net", with_aliases=False))
    assert (error.reason, error.metadata["aliases"]) == ("ARTIFACT_HAS_ALIASES", "best")
    receipt = await delete([], "local/p/net", with_aliases=True)
    assert (receipt.versions, receipt.freed_bytes, receipt.shared_bytes) == (1, 9, 0)
    assert await desk.stored_bytes() == []
    assert (await delete([], "local/p/net", with_aliases=True)).versions == 0
    assert (
        await refusal(delete([], "local/p/none", with_aliases=True))
    ).reason == "ARTIFACT_NOT_FOUND"
    for paths, path in ((["local/p/net"], ""), ([], ""), (["local/p/net:v0"], "local/p/net")):
        assert (await refusal(delete(paths, path, with_aliases=True))).reason == "FIELD_INVALID"
    many = ["local/p/net:v0"] * 1_001
    assert (await refusal(delete(many, "", with_aliases=True))).reason == "FIELD_TOO_LARGE"


async def test_bytes_are_freed_later_when_the_object_store_is_away() -> None:
    """The versions are gone at once; the receipt tells only what was freed, the purge frees the rest."""
    desk = ArtifactDesk()
    await desk.log("net", {"a": b"12345"})
    real_delete = desk.blobs.delete

    async def fail(keys: object) -> None:
        raise Unavailable("STORE_UNAVAILABLE", "away")

    desk.blobs.delete = fail  # type: ignore[method-assign,assignment]  # a fault
    receipt = await desk.service.artifacts.delete(["local/p/net:v0"], "", with_aliases=False)
    assert (receipt.versions, receipt.freed_objects, receipt.freed_bytes) == (1, 0, 0)
    desk.blobs.delete = real_delete  # type: ignore[method-assign]  # the fault ends
    await desk.service.artifact_purge.purge()
    assert await desk.stored_bytes() == []


async def test_what_changes_is_checked() -> None:
    """Changes are checked as commits are; what is absent stays."""
    desk = ArtifactDesk()
    await desk.log("net", {"a": b"1"}, metadata_json='{"a":1}')
    update = desk.service.artifacts.update
    changed = await update("local/p/net", VersionChange(0, add_aliases=("best",)), ttl_s=60)
    assert (changed.aliases, changed.metadata_json) == (("latest", "best"), '{"a":1}')
    assert changed.expire_time_unix_ns is not None
    assert (await update("local/p/net", VersionChange(0), ttl_s=0)).expire_time_unix_ns is None
    for change in (
        VersionChange(0, add_aliases=("latest",)),
        VersionChange(0, remove_aliases=("latest",)),
        VersionChange(0, metadata_json="1"),
        VersionChange(0, add_tags=("\n",)),
    ):
        assert (await refusal(update("local/p/net", change, ttl_s=None))).reason == "FIELD_INVALID"
    error = await refusal(update("local/p/none", VersionChange(0), ttl_s=None))
    assert error.reason == "ARTIFACT_NOT_FOUND"


async def test_time_ends_versions_drafts_and_uploads() -> None:
    """Versions past their time go unless they have aliases; drafts and uploads that nobody uses go with their bytes."""
    desk = ArtifactDesk()
    await desk.log("net", {"a": b"goes"}, ttl_s=60)
    await desk.log("net", {"a": b"stays"}, ttl_s=60, aliases=["keep"])
    entries = make_entries({"a": b"half", "b": b"missing"})
    draft = await desk.begin("net", entries)
    await desk.add(draft.draft_id, entries)
    await desk.upload(draft.draft_id, [b"half"])
    (planned,) = await desk.service.contents.create(draft.draft_id, [ask(b"missing")])
    desk.put(planned, b"missing")
    purge = desk.service.artifact_purge.purge
    await purge()
    assert len(await desk.stored_bytes()) == 4
    desk.clock.advance(61)
    await purge()
    assert await desk.stored_bytes() == [b"half", b"missing", b"stays"]
    assert (await desk.service.artifacts.get("local/p/net")).number == 1
    desk.clock.advance(2 * DAY_S)
    await purge()
    assert await desk.stored_bytes() == [b"half", b"stays"]
    assert (await desk.service.drafts.find(draft.draft_id)).version is None
    desk.clock.advance(6 * DAY_S)
    await purge()
    assert await desk.stored_bytes() == [b"stays"]
    assert (await refusal(desk.service.drafts.find(draft.draft_id))).reason == "DRAFT_NOT_FOUND"
    change = VersionChange(0, remove_aliases=("keep",))
    await desk.service.artifacts.update("local/p/net", change, ttl_s=None)
    await purge()
    assert await desk.stored_bytes() == []
