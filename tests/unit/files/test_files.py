"""Uploads, downloads and deletions, over the memory stores."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from runyard_server.files.file_uploads import PlannedUpload
from runyard_server.files.purge import Purge
from runyard_server.files.service import FilesConfig
from runyard_server.files.uploads import (
    FILE_BYTES_MAX,
    PART_BYTES_MAX,
    PART_BYTES_MIN,
    PART_COUNT_MAX,
    cut_into_parts,
)
from tests.unit.files.desk import PATH, Desk, announce

MIB = 1024**2


def md5(content: bytes) -> bytes:
    return hashlib.md5(content).digest()


async def test_a_file_comes_back() -> None:
    """What was sent is listed and downloaded, under its name and type."""
    desk = Desk()
    file = await desk.save("d/a.txt", b"hello", md5s=[md5(b"hello")])
    assert (file.size_bytes, file.content_type) == (5, "text/plain")
    headers, content = await desk.load("d/a.txt")
    assert content == b"hello"
    assert headers["Content-Disposition"].partition(";")[0] == "inline"
    page = await desk.service.list_files(PATH, prefix="d/", page_size=0, page_token="")
    assert ([file], "", 1, 5) == (
        page.files,
        page.next_page_token,
        page.total_count,
        page.total_bytes,
    )


async def test_an_empty_file_is_a_file() -> None:
    """Zero bytes are one part."""
    desk = Desk()
    await desk.save("empty", b"")
    assert (await desk.load("empty"))[1] == b""


async def test_nothing_is_visible_before_completion() -> None:
    """A file appears with CompleteUpload, not with its bytes."""
    desk = Desk()
    sent = await desk.send("a", b"x")
    assert await desk.list_names() == []
    with pytest.raises(NotFound) as caught:
        await desk.service.get_file(PATH, "a", as_attachment=False)
    assert caught.value.reason == "FILE_NOT_FOUND"
    await desk.service.complete_upload(sent.upload.upload_id, sent.etags)
    assert await desk.list_names() == ["a"]


async def test_a_repeated_completion_answers_as_the_first_time() -> None:
    """Safe to repeat, also after the file was replaced."""
    desk = Desk()
    sent = await desk.send("a", b"one")
    first = await desk.service.complete_upload(sent.upload.upload_id, sent.etags)
    await desk.save("a", b"two")
    assert first == await desk.service.complete_upload(sent.upload.upload_id, sent.etags)
    assert (await desk.load("a"))[1] == b"two"


async def test_the_same_bytes_are_not_sent_twice() -> None:
    """The same name and content is present; the same content under another name gets the name at once."""
    desk = Desk()
    await desk.save("a", b"bytes")
    for name in ("a", "b/c.csv"):
        planned = await desk.service.create_upload(PATH, announce(name, b"bytes"))
        assert planned.upload is None
    assert await desk.list_names() == ["a", "b/c.csv"]
    assert (await desk.load("b/c.csv"))[1] == b"bytes"
    other = await desk.service.create_upload("local/p/y", announce("a", b"bytes"))
    assert other.upload is not None


@pytest.mark.parametrize("sent", [b"hell", b"HELLO", b"hello!"])
async def test_other_bytes_than_announced_are_refused(sent: bytes) -> None:
    """Size and MD5 are checked; the file that was there before stays."""
    desk = Desk()
    await desk.save("a", b"before")
    upload = await desk.send("a", b"hello", sent=sent, md5s=[md5(b"hello")])
    with pytest.raises(FailedPrecondition) as caught:
        await desk.service.complete_upload(upload.upload.upload_id, upload.etags)
    assert caught.value.reason == "FILE_CONTENT_MISMATCH"
    assert (await desk.load("a"))[1] == b"before"


async def test_an_etag_of_other_bytes_is_refused() -> None:
    """The object must be the one that the client put: someone else's PUT to the URL shows."""
    desk = Desk()
    sent = await desk.send("a", b"hello")
    await desk.blobs.put(sent.upload.object_key, b"HELLO", content_type="")
    with pytest.raises(FailedPrecondition):
        await desk.service.complete_upload(sent.upload.upload_id, sent.etags)


async def test_an_upload_that_never_came_is_refused() -> None:
    """Completing without a PUT is a mismatch; with too few ETags an error of its own."""
    desk = Desk()
    planned = await desk.service.create_upload(PATH, announce("a", b"x"))
    assert planned.upload is not None
    with pytest.raises(FailedPrecondition):
        await desk.service.complete_upload(planned.upload.upload_id, ['"abc"'])
    with pytest.raises(InvalidArgument) as caught:
        await desk.service.complete_upload(planned.upload.upload_id, [])
    assert caught.value.reason == "COLUMN_LENGTH_MISMATCH"
    with pytest.raises(NotFound):
        await desk.service.complete_upload("nobody", [])


async def test_many_files_go_together() -> None:
    """Of files announced and completed together each has its answer; a refusal stops no other; too many are refused."""
    desk = Desk()
    await desk.save("there", b"there")
    asks = [
        announce("a", b"1"),
        announce("../b", b"2"),
        announce("c", b"there"),
        announce("d", b"4"),
    ]
    planned = await desk.service.create_uploads(PATH, asks)
    assert isinstance(planned[1], InvalidArgument)
    assert planned[2] == PlannedUpload(None)
    arrivals = []
    for plan, content in ((planned[0], b"1"), (planned[3], b"other")):
        assert isinstance(plan, PlannedUpload)
        assert plan.upload is not None
        headers = desk.blobs.answer("PUT", plan.part_urls[0], content)[1]
        arrivals.append((plan.upload.upload_id, [headers["ETag"]]))
    done = await desk.service.complete_uploads([*arrivals, ("nobody", []), arrivals[0]])
    assert [getattr(answer, "reason", "") for answer in done] == [
        "",
        "FILE_CONTENT_MISMATCH",
        "FILE_NOT_FOUND",
        "",
    ]
    assert await desk.list_names() == ["a", "c", "there"]
    with pytest.raises(InvalidArgument):
        await desk.service.create_uploads(PATH, asks * 251)
    with pytest.raises(InvalidArgument):
        await desk.service.complete_uploads(arrivals * 501)


async def test_of_many_only_those_that_the_store_holds_are_visible() -> None:
    """A client that reports right ETags for objects that never arrived, or have other bytes, makes none of them visible."""
    desk = Desk()
    contents = {f"f{number}": f"{number}".encode() for number in range(8)}
    asks = [announce(name, content) for name, content in contents.items()]
    planned = [
        plan
        for plan in await desk.service.create_uploads(PATH, asks)
        if isinstance(plan, PlannedUpload)
    ]
    arrivals = []
    for number, (plan, content) in enumerate(zip(planned, contents.values(), strict=True)):
        assert plan.upload is not None
        if number not in (2, 5):
            desk.blobs.answer("PUT", plan.part_urls[0], b"!" if number == 3 else content)
        arrivals.append((plan.upload.upload_id, [md5(content).hex()]))
    folders = {plan.upload.object_key.rpartition("/")[0] for plan in planned if plan.upload}
    assert len(folders) == 1, "what is announced together lies together, so that one listing tells"
    done = await desk.service.complete_uploads(arrivals)
    refused = [n for n, answer in enumerate(done) if isinstance(answer, FailedPrecondition)]
    assert refused == [2, 3, 5]
    assert await desk.list_names() == ["f0", "f1", "f4", "f6", "f7"]


async def test_large_files_go_in_parts() -> None:
    """Above the limit a file is sent in parts; the join is checked by size and S3's formula."""
    desk = Desk(FilesConfig(part_bytes_min=MIB))
    content = bytes(range(256)) * 4096 * 2 + b"tail"
    md5s = [md5(content[i * MIB : (i + 1) * MIB]) for i in range(3)]
    sent = await desk.send("big", content, md5s=md5s)
    assert (sent.upload.part_count, sent.upload.part_bytes) == (3, MIB)
    file = await desk.service.complete_upload(sent.upload.upload_id, sent.etags)
    assert file.size_bytes == len(content)
    assert content == (await desk.load("big"))[1]


async def test_an_upload_in_parts_goes_on_where_it_was() -> None:
    """A repeated announcement of the same bytes names what has arrived; parts of other bytes are sent anew."""
    desk = Desk(FilesConfig(part_bytes_min=MIB))
    content = b"a" * MIB + b"b" * MIB + b"c"
    ask = replace(announce("big", content), part_md5s=(md5(b"a" * MIB), md5(b"b" * MIB), md5(b"c")))
    first = await desk.service.create_upload(PATH, ask)
    assert first.upload is not None
    assert not any(first.part_etags)
    desk.blobs.answer("PUT", first.part_urls[0], b"a" * MIB)
    desk.blobs.answer("PUT", first.part_urls[1], b"B" * MIB)
    again = await desk.service.create_upload(PATH, ask)
    assert again.upload is not None
    assert again.upload.upload_id == first.upload.upload_id
    assert (md5(b"a" * MIB).hex(), "", "") == again.part_etags
    for other in (
        replace(ask, name="other"),
        replace(ask, part_md5s=(b"m" * 16,) * 3),
        replace(ask, content_type="a/b"),
    ):
        planned = await desk.service.create_upload(PATH, other)
        assert planned.upload is not None
        assert planned.upload.upload_id != first.upload.upload_id
    etags = [again.part_etags[0]]
    for url, part in ((again.part_urls[1], b"b" * MIB), (again.part_urls[2], b"c")):
        etags.append(desk.blobs.answer("PUT", url, part)[1]["ETag"])
    await desk.service.complete_upload(first.upload.upload_id, etags)
    assert content == (await desk.load("big"))[1]


async def test_an_upload_that_goes_on_is_not_abandoned() -> None:
    """The day after which an upload is forgotten counts from its last announcement."""
    desk = Desk(FilesConfig(part_bytes_min=MIB))
    content = b"x" * (MIB + 1)
    sent = await desk.send("big", content)
    for _ in range(3):
        desk.clock.advance(20 * 3600)
        await desk.service.create_upload(PATH, announce("big", content))
        await make_purge(desk).purge()
    assert (await desk.files.find_uploads([sent.upload.upload_id]))[0] is not None


async def test_a_join_that_was_not_recorded_needs_no_bytes_again() -> None:
    """A server killed between the join and its record: the announcement finds the object whole."""
    desk = Desk(FilesConfig(part_bytes_min=MIB))
    content = b"x" * (MIB + 1)
    md5s = (md5(content[:MIB]), md5(b"x"))
    sent = await desk.send("big", content, md5s=md5s)
    await desk.blobs.complete_multipart(
        sent.upload.object_key, sent.upload.multipart_id, sent.etags
    )
    again = await desk.service.create_upload(
        PATH, replace(announce("big", content), part_md5s=md5s)
    )
    assert again.upload is not None
    assert (sent.upload.upload_id, tuple(m.hex() for m in md5s)) == (
        again.upload.upload_id,
        again.part_etags,
    )
    await desk.service.complete_upload(again.upload.upload_id, list(again.part_etags))
    assert content == (await desk.load("big"))[1]


async def test_a_lost_reply_of_the_join_does_no_harm() -> None:
    """Parts that were joined, but whose completion was not recorded, complete on the repeat."""
    desk = Desk(FilesConfig(part_bytes_min=MIB))
    content = b"x" * (MIB + 1)
    sent = await desk.send("big", content)
    joined = await desk.blobs.complete_multipart(
        sent.upload.object_key, sent.upload.multipart_id, sent.etags
    )
    assert joined is not None
    await desk.service.complete_upload(sent.upload.upload_id, sent.etags)
    assert content == (await desk.load("big"))[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "../a"}, "FIELD_INVALID"),
        ({"sha256": b"short"}, "FIELD_INVALID"),
        ({"size_bytes": FILE_BYTES_MAX + 1}, "FIELD_TOO_LARGE"),
        ({"content_type": "no type"}, "FIELD_INVALID"),
        ({"part_md5s": (b"short",)}, "FIELD_INVALID"),
        ({"part_md5s": (b"m" * 16,) * 2}, "COLUMN_LENGTH_MISMATCH"),
    ],
)
async def test_bad_announcements_are_refused(changes: dict[str, object], reason: str) -> None:
    """What no file can be is refused with the field."""
    ask = replace(announce("a", b"x"), **changes)  # type: ignore[arg-type]  # members of Announcement
    with pytest.raises(DomainError) as caught:
        await Desk().service.create_upload(PATH, ask)
    assert reason == caught.value.reason


async def test_a_piece_of_a_file_is_read() -> None:
    """From anywhere, of any length up to the limit; behind the end it is empty; a file that is not there is told."""
    desk = Desk()
    content = bytes(range(256)) * 20 * 1024
    await desk.save("a", content)
    await desk.save("empty", b"")
    for offset, max_bytes, length in (
        (0, 0, MIB),
        (5, 10, 10),
        (0, 99 * MIB, 4 * MIB),
        (len(content) - 3, 0, 3),
        (len(content), 5, 0),
        (2**63, 5, 0),
    ):
        file, piece = await desk.service.read_file(PATH, "a", offset=offset, max_bytes=max_bytes)
        assert (file.name, piece) == ("a", content[offset : offset + length])
    assert (await desk.service.read_file(PATH, "empty", offset=0, max_bytes=0))[1] == b""
    with pytest.raises(NotFound):
        await desk.service.read_file(PATH, "none", offset=0, max_bytes=0)


async def test_a_deleted_file_frees_its_bytes() -> None:
    """Bytes are freed with their last name; unknown names are passed over; a repeat frees nothing."""
    desk = Desk()
    await desk.save("a", b"12345")
    await desk.service.create_upload(PATH, announce("b", b"12345"))
    await desk.save("c", b"678")
    assert await desk.service.delete_files(PATH, ["a", "c", "unknown"]) == (2, 3)
    assert await desk.service.delete_files(PATH, ["b"]) == (1, 5)
    assert await desk.service.delete_files(PATH, ["b"]) == (0, 0)
    assert await desk.blobs.list_blobs("", limit=10) == []


async def test_bytes_are_freed_later_when_the_object_store_is_away() -> None:
    """The names are gone at once; the purge removes what stayed behind."""
    desk = Desk()
    await desk.save("a", b"12345")
    real_delete = desk.blobs.delete

    async def fail(keys: object) -> None:
        raise Unavailable("STORE_UNAVAILABLE", "away")

    desk.blobs.delete = fail  # type: ignore[method-assign,assignment]  # a fault
    assert await desk.service.delete_files(PATH, ["a"]) == (1, 0)
    desk.blobs.delete = real_delete  # type: ignore[method-assign]  # the fault ends
    await make_purge(desk).purge()
    assert await desk.blobs.list_blobs("", limit=10) == []


async def test_abandoned_uploads_are_freed() -> None:
    """An upload that was never completed is forgotten a day later, its bytes and parts too; finished files stay."""
    desk = Desk(FilesConfig(part_bytes_min=MIB))
    abandoned = await desk.send("a", b"left")
    parts = await desk.send("big", b"x" * (MIB + 1))
    kept = await desk.save("kept", b"kept")
    desk.clock.advance(23 * 3600)
    await make_purge(desk).purge()
    assert (await desk.files.find_uploads([abandoned.upload.upload_id]))[0] is not None
    desk.clock.advance(2 * 3600)
    await make_purge(desk).purge()
    assert (await desk.files.find_uploads([abandoned.upload.upload_id]))[0] is None
    left = await desk.blobs.list_blobs("", limit=10)
    assert [kept.object_key] == [blob.key for blob in left]
    assert (
        await desk.blobs.complete_multipart(
            parts.upload.object_key, parts.upload.multipart_id, parts.etags
        )
        is None
    )
    with pytest.raises(NotFound):
        await desk.service.complete_upload(parts.upload.upload_id, parts.etags)


async def test_files_come_in_pages() -> None:
    """Pages follow each other by name; totals speak of all."""
    desk = Desk()
    names = [f"f{n}" for n in range(5)]
    for name in names:
        await desk.save(name, name.encode())
    found, token = [], ""
    for _ in range(3):
        page = await desk.service.list_files(PATH, prefix="", page_size=2, page_token=token)
        found += [file.name for file in page.files]
        token = page.next_page_token
        assert (page.total_count, page.total_bytes) == (5, 10)
    assert (names, "") == (found, token)


async def test_a_run_that_is_not_there_has_no_files() -> None:
    """The error of metadata comes through."""
    desk = Desk()
    with pytest.raises(NotFound) as caught:
        await desk.service.list_files("local/p/none", prefix="", page_size=0, page_token="")
    assert caught.value.reason == "RUN_NOT_FOUND"


@given(st.integers(0, FILE_BYTES_MAX), st.integers(0, 2 * PART_BYTES_MAX))
def test_parts_are_of_the_size_that_the_client_wants(size_bytes: int, wanted_bytes: int) -> None:
    """A client's size of parts is taken if S3 and the length of a reply allow it."""
    parts = cut_into_parts(size_bytes, part_bytes_min=16 * MIB, wanted_bytes=wanted_bytes)
    assert 1 <= parts.part_count <= PART_COUNT_MAX
    is_possible = PART_BYTES_MIN <= wanted_bytes <= PART_BYTES_MAX
    if is_possible and size_bytes <= wanted_bytes * PART_COUNT_MAX:
        assert parts.part_bytes == min(wanted_bytes, size_bytes)
    assert (
        parts.part_bytes * (parts.part_count - 1)
        <= size_bytes
        <= parts.part_bytes * parts.part_count
    )


@given(st.integers(0, FILE_BYTES_MAX))
def test_parts_cover_any_file(size_bytes: int) -> None:
    """Parts cover the file exactly, are few enough, and none but the last is below 64 MiB or above S3's 5 GiB."""
    parts = cut_into_parts(size_bytes, part_bytes_min=64 * MIB)
    assert 1 <= parts.part_count <= PART_COUNT_MAX
    assert parts.part_bytes <= 5 * 1024 * MIB
    if parts.part_count == 1:
        assert parts.part_bytes == size_bytes
    else:
        assert parts.part_bytes >= 64 * MIB
        last = size_bytes - parts.part_bytes * (parts.part_count - 1)
        assert 0 < last <= parts.part_bytes


def make_purge(desk: Desk) -> Purge:
    return Purge(files=desk.files, blobs=desk.blobs, clock=desk.clock, upload_age_max_s=24 * 3600)
