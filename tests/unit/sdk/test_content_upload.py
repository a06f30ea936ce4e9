"""Sending one content: parts at once, going on after a cut, what changes while it is sent, a store that is away."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runyard.agent.content_upload import (
    CHANGE_COUNT_MAX,
    PART_BYTES,
    PART_COUNT_MAX,
    PARTS_AT_ONCE_MAX,
    STORE_UNREACHABLE,
    ContentUploads,
    Progress,
    part_bytes_of,
)
from runyard.agent.disk import LocalDisk
from runyard.agent.ports import FileDigest, FilePart, UploadPlan
from runyard.agent.retry import Reach, Repeater
from runyard.errors import Error, InvalidArgument, NotFound, Unavailable

MIB = 1 << 20
BIG = 20 * MIB + 5


class Store:
    """A server and its object store: keeps parts as S3 does, and fails as the test says."""

    def __init__(self, *, part_bytes: int = 0) -> None:
        self.part_bytes = part_bytes
        """Not 0: cuts so, whatever is wished, as servers of before do."""
        self.parts: dict[str, bytes] = {}
        self.content: bytes | None = None
        self.sent: list[str] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.before_part: Callable[[str], Error | None] = lambda url: None
        self.announce_count = 0
        self.complete_errors: list[Error] = []

    async def announce(self, digest: FileDigest) -> UploadPlan:
        self.announce_count += 1
        if self.content is not None and hashlib.sha256(self.content).digest() == digest.sha256:
            return UploadPlan("", True, 0, ())
        part_bytes = self.part_bytes or digest.part_bytes
        count = max(1, -(-digest.size_bytes // part_bytes))
        if digest.part_md5s and len(digest.part_md5s) != count:
            raise InvalidArgument("other parts", reason="COLUMN_LENGTH_MISMATCH")
        urls = [f"{digest.sha256.hex()[:8]}/{index:04d}" for index in range(count)]
        etags = []
        for index, url in enumerate(urls):
            held = hashlib.md5(self.parts[url]).digest() if url in self.parts else b""
            is_there = bool(digest.part_md5s) and held == digest.part_md5s[index]
            etags.append(held.hex() if is_there else "")
        return UploadPlan(
            digest.sha256.hex()[:8], False, part_bytes, urls, () if self.part_bytes else etags
        )

    async def put_part(self, url: str, part: FilePart) -> str:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            await asyncio.sleep(0.001)
            error = self.before_part(url)
            if error is not None:
                raise error
            content = Path(part.path).read_bytes()[part.offset : part.offset + part.size_bytes]
            md5 = hashlib.md5(content)
            if part.content_md5 and md5.digest() != _plain(part.content_md5):
                raise Unavailable("BadDigest", reason="FILE_CHANGED")
            self.parts[url] = content
            self.sent.append(url)
            return md5.hexdigest()
        finally:
            self.in_flight -= 1

    async def complete(self, upload_id: str, part_etags: Sequence[str]) -> None:
        if self.complete_errors:
            raise self.complete_errors.pop()
        urls = sorted(url for url in self.parts if url.startswith(upload_id))
        assert [hashlib.md5(self.parts[url]).hexdigest() for url in urls] == list(part_etags)
        self.content = b"".join(self.parts[url] for url in urls)


def _plain(base64_text: str) -> bytes:
    import base64

    return base64.b64decode(base64_text)


def uploads_to(store: Store) -> ContentUploads:
    loop = asyncio.get_running_loop()
    repeater = Repeater(Reach(loop.time), draw=lambda: 0.0)
    return ContentUploads(store, repeater, LocalDisk())  # type: ignore[arg-type]  # of a transport it calls put_part only


def make_file(folder: Path, size_bytes: int = BIG) -> Path:
    path = folder / "content.bin"
    path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
    return path


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runyard.agent.retry.PAUSE_MAX_S", 0.001)
    monkeypatch.setattr("runyard.agent.retry.FIRST_PAUSE_S", 0.001)


@pytest.mark.parametrize("size_bytes", [0, 1, 8 * MIB, 8 * MIB + 1, BIG])
async def test_a_content_arrives_whole(tmp_path: Path, size_bytes: int) -> None:
    """Of any size, in parts of 8 MiB, a few at once; the digest and the progress are of the whole."""
    path, store, progress = make_file(tmp_path, size_bytes), Store(), Progress()
    digest = await uploads_to(store).send(str(path), store, progress=progress)
    content = path.read_bytes()
    assert (store.content, digest.sha256) == (content, hashlib.sha256(content).digest())
    assert len(store.sent) == max(1, -(-size_bytes // (PART_BYTES)))
    assert store.in_flight_max <= PARTS_AT_ONCE_MAX
    assert (progress.bytes_total, progress.bytes_done) == (size_bytes, size_bytes)
    again = await uploads_to(store).send(str(path), store)
    assert again.sha256 == digest.sha256
    assert len(store.sent) == max(1, -(-size_bytes // (PART_BYTES))), "sent again"


async def test_parts_go_at_once(tmp_path: Path) -> None:
    """Several parts of one content are in flight."""
    store = Store()
    await uploads_to(store).send(str(make_file(tmp_path)), store)
    assert store.in_flight_max > 1


async def test_what_has_arrived_is_not_sent_again(tmp_path: Path) -> None:
    """A sender that is cut off is followed by one that sends the rest only."""
    path, store = make_file(tmp_path), Store()

    def fail_third(url: str) -> Error | None:
        return InvalidArgument("no", reason="X") if url.endswith("0002") else None

    store.before_part = fail_third
    with pytest.raises(InvalidArgument):
        await uploads_to(store).send(str(path), store)
    assert sorted(url[-4:] for url in store.sent) == ["0000", "0001"]
    store.before_part = lambda url: None
    progress = Progress()
    await uploads_to(store).send(str(path), store, progress=progress)
    assert [url[-4:] for url in store.sent[2:]] == ["0002"]
    assert (progress.parts_sent, progress.bytes_done, store.content) == (1, BIG, path.read_bytes())


async def test_a_server_that_cuts_otherwise_gets_its_parts(tmp_path: Path) -> None:
    """One of before decides on the size of parts; MD5s are computed for those."""
    path, store = make_file(tmp_path), Store(part_bytes=12 * MIB)
    await uploads_to(store).send(str(path), store)
    assert (len(store.sent), store.content) == (2, path.read_bytes())


async def test_failures_count_only_while_nothing_gets_across(tmp_path: Path) -> None:
    """A store that fails most parts takes a file all the same; one that fails all is given up after some tries."""
    path, store = make_file(tmp_path), Store()
    failures = dict.fromkeys(range(3), 0)

    def mostly(url: str) -> Error | None:
        index = int(url[-4:])
        failures[index] += 1
        is_taken = failures[index] > 6 * (index + 1)
        return None if is_taken else Unavailable("500", reason="STORE_UNAVAILABLE")

    store.before_part = mostly
    await uploads_to(store).send(str(path), store)
    assert store.content == path.read_bytes()
    store.content, store.parts = None, {}
    store.before_part = lambda url: Unavailable("500", reason="STORE_UNAVAILABLE")
    with pytest.raises(Unavailable):
        await uploads_to(store).send(str(path), store)


async def test_an_unreachable_store_is_waited_for_while_the_caller_wants(tmp_path: Path) -> None:
    """`keeps_on` is asked when nothing gets across."""
    path, store, asked = make_file(tmp_path, 5), Store(), []
    store.before_part = lambda url: Unavailable("away", reason=STORE_UNREACHABLE)

    def keeps_on(error: Error) -> bool:
        asked.append(error.reason)
        if len(asked) == 3:
            store.before_part = lambda url: None
        return True

    await uploads_to(store).send(str(path), store, keeps_on=keeps_on)
    assert (asked, store.content) == ([STORE_UNREACHABLE] * 3, path.read_bytes())


async def test_a_file_that_changes_once_is_sent_as_it_is_then(tmp_path: Path) -> None:
    """The store refuses bytes that were not announced; the file is hashed and sent anew."""
    path, store = make_file(tmp_path), Store()
    stamp = path.stat()

    def change(url: str) -> None:
        if not store.sent:
            with path.open("r+b") as file:  # the same size and time: only the bytes tell
                file.write(b"other")
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    store.before_part = change
    await uploads_to(store).send(str(path), store)
    assert (store.announce_count, store.content) == (2, path.read_bytes())


async def test_a_file_that_never_rests_is_refused(tmp_path: Path) -> None:
    """After some tries the error says what to do."""
    path, store = make_file(tmp_path, 100), Store()
    store.before_part = lambda url: path.write_bytes(random.randbytes(100)) and None
    with pytest.raises(InvalidArgument, match="changes again and again") as caught:
        await uploads_to(store).send(str(path), store)
    assert caught.value.reason == "FILE_CHANGED"
    assert store.announce_count == CHANGE_COUNT_MAX + 1


async def test_an_upload_that_the_server_forgot_is_announced_anew(tmp_path: Path) -> None:
    """FILE_NOT_FOUND of the completion is no refusal for good."""
    path, store = make_file(tmp_path, 5), Store()
    store.complete_errors = [NotFound("no such upload", reason="FILE_NOT_FOUND")]
    await uploads_to(store).send(str(path), store)
    assert (store.announce_count, store.content) == (2, path.read_bytes())


async def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe would be waited on for ever; a file that is gone is named."""
    store = Store()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        await uploads_to(store).send(str(tmp_path / "pipe"), store)
    with pytest.raises(OSError, match="no regular file"):
        await uploads_to(store).send("/dev/zero", store)
    with pytest.raises(InvalidArgument, match="no file"):
        await uploads_to(store).send(str(tmp_path / "gone"), store)


async def test_a_file_that_grows_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    """Only the bytes that were there at the beginning are hashed and sent."""
    path, store = make_file(tmp_path, 1000), Store()
    before = path.read_bytes()
    disk = LocalDisk()
    stamp = disk.stamp

    def grow(path_text: str) -> tuple[int, int] | None:
        found = stamp(path_text)
        with path.open("ab") as file:
            file.write(b"more" * 1000)
        return found

    disk.stamp = grow  # type: ignore[method-assign]  # a writer that never rests
    repeater = Repeater(Reach(asyncio.get_running_loop().time), draw=lambda: 0.0)
    await ContentUploads(store, repeater, disk).send(str(path), store)  # type: ignore[arg-type]  # as above
    assert store.content == before


def test_parts_are_few_enough() -> None:
    """The server takes 1,024 parts."""
    for size_bytes in (0, 1, 16 << 30, (16 << 30) + 1, 5 << 40):
        part_bytes = part_bytes_of(size_bytes)
        assert part_bytes % MIB == 0
        assert -(-size_bytes // part_bytes) <= PART_COUNT_MAX
