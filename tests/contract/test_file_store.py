"""FileStore: memory, SQLite and PostgreSQL keep the same promises. Each case cites the sentence of the port it checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.files import MemoryFileStore
from runyard_server.storage.ports.files import FileStore, ReleasedObject, StoredFile, Upload
from runyard_server.storage.sql.files import SqlFileStore
from tests.contract.databases import DATABASES, open_database

RUN = RunKey(2**63 + 1)


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FileStore]:
    async with open_database(request, tmp_path) as database:
        yield MemoryFileStore() if database is None else SqlFileStore(database)


def make_upload(name: str, *, number: int = 1, size_bytes: int = 10, time: int = 5) -> Upload:
    return Upload(
        upload_id=f"u{number}",
        run_key=RUN,
        name=name,
        object_key=f"runs/1/{number}",
        size_bytes=size_bytes,
        sha256=bytes([number]) * 32,
        content_type="text/plain",
        part_bytes=size_bytes,
        part_count=1,
        part_md5s=(b"m" * 16, b"n" * 16),
        multipart_id="mp",
        create_time_unix_ns=time,
    )


async def add_file(store: FileStore, name: str, *, number: int, size_bytes: int = 10) -> StoredFile:
    upload = make_upload(name, number=number, size_bytes=size_bytes)
    await store.insert_uploads([upload])
    file = await complete(store, upload.upload_id, time_unix_ns=100 + number)
    assert file is not None
    return file


async def find_upload(store: FileStore, upload_id: str) -> Upload | None:
    return (await store.find_uploads([upload_id]))[0]


async def complete(store: FileStore, upload_id: str, *, time_unix_ns: int) -> StoredFile | None:
    return (await store.complete_uploads([upload_id], time_unix_ns=time_unix_ns))[0]


async def released_keys(store: FileStore) -> set[str]:
    return {item.object_key for item in await store.list_released(limit=100)}


async def test_an_upload_comes_back_as_it_was(store: FileStore) -> None:
    """Returns the upload, completed or not, or None."""
    upload = make_upload("a/b.txt")
    await store.insert_uploads([upload])
    assert upload == await find_upload(store, "u1")
    assert await find_upload(store, "u2") is None
    assert await store.find_file(RUN, "a/b.txt") is None


async def test_a_repeated_completion_gets_the_first_answer(store: FileStore) -> None:
    """A repeat MUST return the first answer and change nothing."""
    file = await add_file(store, "a", number=1)
    await add_file(store, "a", number=2)
    assert file == await complete(store, "u1", time_unix_ns=999)
    found = await store.find_file(RUN, "a")
    assert found is not None
    assert found.object_key == "runs/1/2"
    upload = await find_upload(store, "u1")
    assert upload is not None
    assert file == upload.completed_file


async def test_many_uploads_at_once(store: FileStore) -> None:
    """Each has its answer, in the order of the call; unknown ones are None, one that is named twice is completed once."""
    uploads = [make_upload(f"f{n}", number=n) for n in (1, 2, 3)]
    await store.insert_uploads(uploads)
    await store.insert_uploads([])
    assert [uploads[2], None, uploads[0]] == await store.find_uploads(["u3", "nobody", "u1"])
    done = await store.complete_uploads(["u3", "nobody", "u1", "u3"], time_unix_ns=9)
    assert [file and file.name for file in done] == ["f3", None, "f1", "f3"]
    assert await store.find_file(RUN, "f2") is None
    assert await store.count_files(RUN, prefix="") == (2, 20)


async def test_a_batch_replaces_names_and_holds_one_twice(store: FileStore) -> None:
    """Makes each upload's file visible in place of what the name held; an object that loses its last name is released."""
    await add_file(store, "a", number=1)
    shared = await add_file(store, "b", number=2)
    assert await store.link_file(replace(shared, name="c"))
    other = replace(make_upload("a", number=7), run_key=RunKey(5))
    batch = [make_upload("a", number=3), make_upload("b", number=4), make_upload("d", number=5)]
    await store.insert_uploads([*batch, make_upload("d", number=6), other])
    ids = ["u5", "u3", "nobody", "u7", "u6", "u4"]
    done = await store.complete_uploads(ids, time_unix_ns=50)
    assert [file.name if file else None for file in done] == ["d", "a", None, "a", "d", "b"]
    assert done == await store.complete_uploads(ids, time_unix_ns=60)
    files = await store.list_files(RUN, prefix="", after_name="", limit=10)
    held = {"a": "runs/1/3", "b": "runs/1/4", "c": "runs/1/2", "d": "runs/1/6"}
    assert held == {file.name: file.object_key for file in files}
    assert {"runs/1/1", "runs/1/5"} == await released_keys(store)
    wanted = [("a", b"\3" * 32), ("x", b"\2" * 32), ("c", b"\4" * 32), ("x", b"\1" * 32)]
    found = await store.find_present(RUN, wanted)
    assert [file.name if file else None for file in found] == ["a", "c", "b", None]
    assert done[3] == await store.find_file(RunKey(5), "a")


async def test_an_upload_that_was_begun_is_found(store: FileStore) -> None:
    """Returns the newest upload of that name, content and number of parts that was not completed; it can be made young."""
    sha256 = bytes([1]) * 32

    async def find(name: str = "a", part_count: int = 1) -> str | None:
        found = await store.find_open_upload(RUN, name, sha256, part_count=part_count)
        return found and found.upload_id

    assert await find() is None
    for number, time in ((1, 30), (2, 40), (3, 20)):
        upload = make_upload("a", number=number, time=time)
        await store.insert_uploads([replace(upload, sha256=sha256)])
    assert (await find(), await find("b"), await find(part_count=2)) == ("u2", None, None)
    assert await store.renew_upload("u3", time_unix_ns=50)
    assert await find() == "u3"
    await complete(store, "u3", time_unix_ns=60)
    assert not await store.renew_upload("u3", time_unix_ns=70)
    assert not await store.renew_upload("unknown", time_unix_ns=70)
    assert await find() == "u2"
    old = await store.list_uploads(created_before_unix_ns=51, limit=10)
    assert [upload.upload_id for upload in old] == ["u1", "u2", "u3"]


async def test_completing_an_unknown_upload_is_none(store: FileStore) -> None:
    """None if there is no such upload."""
    assert await complete(store, "nobody", time_unix_ns=1) is None


async def test_a_replaced_file_releases_its_object(store: FileStore) -> None:
    """An object that loses its last name is released."""
    await add_file(store, "a", number=1, size_bytes=7)
    await add_file(store, "a", number=2)
    assert [ReleasedObject("runs/1/1", 7)] == await store.list_released(limit=10)
    await store.confirm_released(["runs/1/1"])
    assert await store.list_released(limit=10) == []


async def test_names_are_listed_by_their_bytes(store: FileStore) -> None:
    """Returns files whose names begin with prefix, by the bytes of their names, those after after_name."""
    names = ["b", "a/2", "a/10", "Z", "ä", "a", "a/\U0010ffff", "a-b", "a%"]
    for number, name in enumerate(names, start=1):
        await add_file(store, name, number=number, size_bytes=number)
    everything = await store.list_files(RUN, prefix="", after_name="", limit=100)
    assert sorted(names, key=str.encode) == [file.name for file in everything]
    below = await store.list_files(RUN, prefix="a/", after_name="", limit=100)
    assert [file.name for file in below] == ["a/10", "a/2", "a/\U0010ffff"]
    later = await store.list_files(RUN, prefix="a/", after_name="a/10", limit=1)
    assert [file.name for file in later] == ["a/2"]
    assert await store.count_files(RUN, prefix="a/") == (3, 2 + 3 + 7)
    assert await store.count_files(RUN, prefix="") == (9, 45)
    assert await store.count_files(RunKey(1), prefix="") == (0, 0)


async def test_an_object_with_two_names_lives_until_both_are_gone(store: FileStore) -> None:
    """Several names may share an object; it is released with its last name."""
    file = await add_file(store, "a", number=1)
    wanted = [("b", file.sha256), ("a", b"o" * 32), ("a", file.sha256)]
    assert [file, None, file] == await store.find_present(RUN, wanted)
    assert await store.find_present(RunKey(1), wanted) == [None] * 3
    linked = replace(file, name="b", content_type="text/csv", update_time_unix_ns=7)
    assert await store.link_file(linked)
    assert linked == await store.find_file(RUN, "b")
    assert [linked, None, file] == await store.find_present(RUN, wanted)
    assert ([file], []) == await store.delete_files(RUN, ["a", "a", "unknown"])
    assert set() == await released_keys(store)
    expected = ([linked], [ReleasedObject(file.object_key, file.size_bytes)])
    assert expected == await store.delete_files(RUN, ["b"])
    assert {file.object_key} == await released_keys(store)


async def test_a_released_object_gets_no_name(store: FileStore) -> None:
    """False if it is not in use."""
    file = await add_file(store, "a", number=1)
    await store.delete_files(RUN, ["a"])
    assert not await store.link_file(replace(file, name="b"))
    assert await store.find_file(RUN, "b") is None


async def test_linking_over_a_name_releases_what_it_held(store: FileStore) -> None:
    """An object that loses its last name by this is released; linking a name to its own object changes nothing."""
    first = await add_file(store, "a", number=1)
    second = await add_file(store, "b", number=2)
    assert await store.link_file(replace(first, name="b"))
    assert {second.object_key} == await released_keys(store)
    assert await store.link_file(first)
    assert {second.object_key} == await released_keys(store)


async def test_old_uploads_are_listed_and_forgotten(store: FileStore) -> None:
    """Returns uploads made before that time, oldest first; a forgotten one that was not completed releases its object."""
    await store.insert_uploads([make_upload("x", number=1, time=30)])
    await store.insert_uploads([make_upload("y", number=2, time=10)])
    await store.insert_uploads([make_upload("z", number=3, time=50)])
    await complete(store, "u2", time_unix_ns=11)
    old = await store.list_uploads(created_before_unix_ns=50, limit=10)
    assert [upload.upload_id for upload in old] == ["u2", "u1"]
    for upload_id in ("u1", "u2", "u1"):
        await store.delete_upload(upload_id)
    assert {"runs/1/1"} == await released_keys(store)
    assert await store.find_file(RUN, "y") is not None
    assert await complete(store, "u1", time_unix_ns=60) is None


async def test_many_completions_of_one_name_leave_one_object(store: FileStore) -> None:
    """Each call is one transaction: of uploads completed at once one stays, the others' objects are released."""
    numbers = range(1, 9)
    for number in numbers:
        await store.insert_uploads([make_upload("same", number=number)])
    await asyncio.gather(*(complete(store, f"u{n}", time_unix_ns=n) for n in numbers))
    file = await store.find_file(RUN, "same")
    assert file is not None
    assert {f"runs/1/{n}" for n in numbers} - {file.object_key} == await released_keys(store)


async def test_names_of_the_server_are_hidden(store: FileStore) -> None:
    """Names up to HIDDEN_NAMES_END are listed only under a prefix that begins as they do."""
    await add_file(store, "\x01own/1", number=1)
    await add_file(store, "a", number=2)

    async def names(prefix: str) -> list[str]:
        found = await store.list_files(RUN, prefix=prefix, after_name="", limit=9)
        return [file.name for file in found]

    assert await names("") == ["a"]
    assert await names("\x01own/") == ["\x01own/1"]
    assert await store.count_files(RUN, prefix="") == (1, 10)
