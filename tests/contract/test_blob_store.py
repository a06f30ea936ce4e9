"""BlobStore: memory, SeaweedFS and JuiceFS keep the same promises. Each case cites the sentence of the port it checks."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import urllib3
from minio import Minio

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import Unavailable
from runyard_server.storage.memory.blobs import MemoryBlobStore
from runyard_server.storage.ports.blobs import BlobPart, BlobStore
from runyard_server.storage.s3 import S3BlobStore, S3Settings
from runyard_server.storage.s3_signing import Presigner
from tests.contract.s3_server import S3Server

PART = 5 * 1024 * 1024
"""The smallest part but the last that S3 takes."""
_numbers = itertools.count(1)
Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Subject:
    """A store, and a client of its presigned URLs."""

    blobs: BlobStore
    request: Callable[..., Answer]
    prefix: str


@pytest.fixture(params=["memory", "weed", "juicefs"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    prefix = f"t{next(_numbers)}"
    if request.param == "memory":
        memory = MemoryBlobStore(clock=SystemClock())
        yield Subject(memory, memory.answer, prefix)
        return
    server: S3Server = request.getfixturevalue(request.param)
    store = S3BlobStore(
        S3Settings(
            endpoint=server.endpoint,
            access_key=server.access_key,
            secret_key=server.secret_key,
            bucket="contract",
            thread_count=4,
        ),
        clock=SystemClock(),
    )
    await store.start()
    pool = urllib3.PoolManager(retries=False, timeout=10.0)

    def ask(
        method: str, url: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        body = content if method == "PUT" else None
        reply = pool.request(method, url, body=body, headers=headers)
        return reply.status, dict(reply.headers), reply.data

    yield Subject(store, ask, prefix)
    await store.stop()
    pool.clear()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


async def test_an_object_comes_back(subject: Subject) -> None:
    """Stores the object; a write of a key replaces the object whole."""
    key = f"{subject.prefix}/a b+ü%.txt"
    for content in (b"first", b"", b"x" * 100_000):
        blob = await subject.blobs.put(key, content, content_type="text/plain")
        assert (len(content), md5(content)) == (blob.size_bytes, blob.etag)
        assert content == await subject.blobs.get(key)
        found = await subject.blobs.find(key)
        assert found == blob


async def test_a_missing_object_is_none(subject: Subject) -> None:
    """… or None if there is none."""
    assert await subject.blobs.find(f"{subject.prefix}/none") is None
    assert await subject.blobs.get(f"{subject.prefix}/none") is None


async def test_many_objects_are_found_together(subject: Subject) -> None:
    """Returns what is known of each object, or None, whatever folders they are in; what is told is the store as it is now."""
    folder = f"{subject.prefix}/batch"
    keys = [f"{folder}/m{n:02}" for n in range(10)] + [f"{subject.prefix}/one"]
    contents = {key: key.encode() * 3 for key in keys}
    for key in keys[:2] + keys[3:]:
        await subject.blobs.put(key, contents[key], content_type="text/plain")
    for number in range(30):  # more than what is looked for
        await subject.blobs.put(f"{folder}/a{number}", b"x", content_type="text/plain")
    found = await subject.blobs.find_all([*keys, keys[0], f"{subject.prefix}/none/x"])
    assert [found[2], found[-1]] == [None, None]
    assert found[0] == found[-2]
    told = {blob.key: (blob.size_bytes, blob.etag) for blob in found if blob is not None}
    del contents[keys[2]]
    assert {key: (len(text), md5(text)) for key, text in contents.items()} == told
    await subject.blobs.put(keys[0], b"other", content_type="text/plain")
    await subject.blobs.delete([keys[1]])
    await subject.blobs.put(keys[2], b"late", content_type="text/plain")
    again = await subject.blobs.find_all(keys[:4])
    assert [(md5(b"other"), False, md5(b"late"))] == [
        (again[0].etag if again[0] else "", again[1] is not None, again[2].etag if again[2] else "")
    ]
    assert await subject.blobs.find_all([]) == []


async def test_deleted_objects_are_gone(subject: Subject) -> None:
    """Removes objects; keys without one are passed over."""
    keys = [f"{subject.prefix}/d{n}" for n in range(3)]
    for key in keys:
        await subject.blobs.put(key, b"x", content_type="text/plain")
    await subject.blobs.delete([*keys[:2], f"{subject.prefix}/none"])
    await subject.blobs.delete([])
    left = await subject.blobs.list_blobs(f"{subject.prefix}/", limit=10)
    assert keys[2:] == [blob.key for blob in left]


async def test_objects_are_listed_by_the_bytes_of_their_keys(subject: Subject) -> None:
    """Returns objects whose keys begin so, by the bytes of their keys."""
    names = ["b", "a/x", "a-", "ä", "B"]
    for name in names:
        await subject.blobs.put(f"{subject.prefix}/{name}", b"12", content_type="text/plain")
    found = await subject.blobs.list_blobs(f"{subject.prefix}/", limit=10)
    expected = [f"{subject.prefix}/{name}" for name in sorted(names, key=str.encode)]
    assert expected == [blob.key for blob in found]
    assert {2} == {blob.size_bytes for blob in found}
    two = await subject.blobs.list_blobs(f"{subject.prefix}/", limit=2)
    assert expected[:2] == [blob.key for blob in two]


async def test_a_presigned_put_stores_the_object(subject: Subject) -> None:
    """Returns a URL to which whoever holds it can PUT the object; the ETag is the MD5."""
    key = f"{subject.prefix}/put"
    url = await subject.blobs.sign_put(key, expiry_s=60)
    status, headers, _ = subject.request("PUT", url, b"hello", {"Content-Type": "text/plain"})
    assert status == 200
    assert md5(b"hello") == headers["ETag"].strip('"')
    assert await subject.blobs.get(key) == b"hello"


async def test_a_presigned_get_has_the_headers_asked_for(subject: Subject) -> None:
    """Returns a URL that answers a GET with the bytes under these Content-Type and Content-Disposition headers."""
    key = f"{subject.prefix}/get"
    await subject.blobs.put(key, b"<b>", content_type="text/html")
    disposition = "attachment; filename=\"a.txt\"; filename*=UTF-8''%C3%A4.txt"
    url = await subject.blobs.sign_get(
        key, expiry_s=60, content_type="text/plain; charset=utf-8", disposition=disposition
    )
    status, headers, body = subject.request("GET", url)
    assert (status, body) == (200, b"<b>")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert disposition == headers["Content-Disposition"]


@pytest.mark.parametrize("key", ["runs/0/blobs/ab/cd-ef", "a b+ü%~'(é.txt", "x"])
@pytest.mark.parametrize("endpoint", ["127.0.0.1:8333", "s3.amazonaws.com", "[::1]:9000"])
def test_urls_are_those_of_the_s3_client(key: str, endpoint: str) -> None:
    """The signer makes, byte for byte, what the client of S3 makes for the same moment, and of another day with another key."""
    client = Minio(endpoint, access_key="A+/b", secret_key="s/+", region="eu-x-1", secure=False)
    signer = Presigner(
        client.get_presigned_url("GET", "bucket", "x"),
        access_key="A+/b",
        secret_key="s/+",
        region="eu-x-1",
    )
    queries = [
        {},
        {"partNumber": "7", "uploadId": "a/b+c=="},
        {"response-content-disposition": 'attachment; filename="ü ~.txt"', "Z": ""},
    ]
    for query, time_unix_s in itertools.product(queries, (1_700_000_000, 1_700_086_400.7)):
        theirs = client.get_presigned_url(
            "PUT",
            "bucket",
            key,
            expires=timedelta(seconds=3600),
            extra_query_params=dict(query),
            request_date=datetime.fromtimestamp(time_unix_s, UTC),
        )
        ours = signer.sign("PUT", key, query, expiry_s=3600, time_unix_s=time_unix_s)
        assert _split(theirs) == _split(ours)


def _split(url: str) -> tuple[str, list[str]]:
    """Returns the address and the members of the query, whose order is free."""
    address, _, query = url.partition("?")
    return address, sorted(query.split("&"))


async def test_a_url_is_good_for_its_method_only(subject: Subject) -> None:
    """A URL to read does not write."""
    key = f"{subject.prefix}/only"
    await subject.blobs.put(key, b"kept", content_type="text/plain")
    url = await subject.blobs.sign_get(
        key, expiry_s=60, content_type="text/plain", disposition="inline"
    )
    status, _, _ = subject.request("PUT", url, b"lost")
    assert status == 403
    assert await subject.blobs.get(key) == b"kept"


async def test_a_range_of_an_object(subject: Subject) -> None:
    """Returns up to `length` of the object's bytes from `offset` on, none from its end on; None if there is no object."""
    key = f"{subject.prefix}/range"
    await subject.blobs.put(key, b"0123456789", content_type="text/plain")
    for offset, length, expected in ((0, 3, b"012"), (7, 99, b"789"), (10, 1, b""), (99, 5, b"")):
        assert expected == await subject.blobs.get_range(key, offset, length)
    assert await subject.blobs.get_range(f"{key}/none", 0, 1) is None


async def test_parts_become_one_object(subject: Subject) -> None:
    """Joins the parts, in order, into the object; the ETag is S3's formula."""
    key = f"{subject.prefix}/multi"
    upload = await subject.blobs.start_multipart(key, content_type="text/plain")
    parts = [b"a" * PART, b"b" * 7]
    etags = []
    for number, part in enumerate(parts, start=1):
        url = await subject.blobs.sign_part_put(key, upload, number, expiry_s=60)
        status, headers, _ = subject.request("PUT", url, part)
        assert status == 200
        etags.append(headers["ETag"])
    assert await subject.blobs.find(key) is None
    blob = await subject.blobs.complete_multipart(key, upload, etags)
    assert blob is not None
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    assert (PART + 7, f"{md5(digests)}-2") == (blob.size_bytes, blob.etag)
    assert b"".join(parts) == await subject.blobs.get(key)


async def test_parts_that_have_arrived_are_listed(subject: Subject) -> None:
    """Returns the parts that have arrived, by number."""
    key = f"{subject.prefix}/begun"
    upload = await subject.blobs.start_multipart(key, content_type="text/plain")
    assert await subject.blobs.list_parts(key, upload) == []
    sent = {3: b"c" * PART, 1: b"a" * 7}
    for number, part in sent.items():
        url = await subject.blobs.sign_part_put(key, upload, number, expiry_s=60)
        assert subject.request("PUT", url, part)[0] == 200
    expected = [BlobPart(number, len(part), md5(part)) for number, part in sorted(sent.items())]
    assert expected == await subject.blobs.list_parts(key, upload)
    await subject.blobs.abort_multipart(key, upload)
    assert await subject.blobs.list_parts(key, upload) is None


async def test_more_parts_than_a_page_are_listed(subject: Subject) -> None:
    """All parts come, also where the server answers in pages."""
    if isinstance(subject.blobs, S3BlobStore):
        subject.blobs.list_parts_count = 2
    key = f"{subject.prefix}/pages"
    upload = await subject.blobs.start_multipart(key, content_type="text/plain")
    for number in range(1, 6):
        url = await subject.blobs.sign_part_put(key, upload, number, expiry_s=60)
        subject.request("PUT", url, bytes([number]))
    parts = await subject.blobs.list_parts(key, upload)
    assert parts is not None
    assert [part.number for part in parts] == [1, 2, 3, 4, 5]
    await subject.blobs.abort_multipart(key, upload)


async def test_an_unknown_multipart_upload_is_none(subject: Subject) -> None:
    """None if the upload is not known (completed, aborted)."""
    key = f"{subject.prefix}/aborted"
    upload = await subject.blobs.start_multipart(key, content_type="text/plain")
    url = await subject.blobs.sign_part_put(key, upload, 1, expiry_s=60)
    _, headers, _ = subject.request("PUT", url, b"part")
    await subject.blobs.abort_multipart(key, upload)
    await subject.blobs.abort_multipart(key, upload)
    assert await subject.blobs.complete_multipart(key, upload, [headers["ETag"]]) is None
    assert await subject.blobs.find(key) is None


async def test_a_missing_or_other_part_is_none(subject: Subject) -> None:
    """None if … a part is missing or other than its ETag."""
    key = f"{subject.prefix}/other"
    upload = await subject.blobs.start_multipart(key, content_type="text/plain")
    url = await subject.blobs.sign_part_put(key, upload, 1, expiry_s=60)
    subject.request("PUT", url, b"part")
    assert await subject.blobs.complete_multipart(key, upload, [md5(b"another")]) is None
    assert await subject.blobs.complete_multipart(key, upload, [md5(b"part"), md5(b"none")]) is None
    await subject.blobs.abort_multipart(key, upload)


async def test_a_store_that_is_away_is_unavailable() -> None:
    """Raises Unavailable if the store does not answer in time."""
    settings = S3Settings("127.0.0.1:9", "key", "secret", "bucket", connect_timeout_s=1.0)
    store = S3BlobStore(settings, clock=SystemClock())
    with pytest.raises(Unavailable) as caught:
        await store.get("key")
    assert caught.value.reason == "STORE_UNAVAILABLE"
    await store.stop()


async def test_parts_can_be_stored_from_here(subject: Subject) -> None:
    """Stores one part, numbered from 1, of a multipart upload, and returns its ETag."""
    key = f"{subject.prefix}/parts"
    multipart_id = await subject.blobs.start_multipart(key, content_type="text/plain")
    parts = [b"a" * PART, b"b" * 100]
    etags = [
        await subject.blobs.put_part(key, multipart_id, number, part)
        for number, part in enumerate(parts, start=1)
    ]
    assert etags == [md5(part) for part in parts]
    blob = await subject.blobs.complete_multipart(key, multipart_id, etags)
    assert blob is not None and blob.size_bytes == PART + 100
    assert await subject.blobs.get_range(key, PART - 1, 3) == b"abb"
