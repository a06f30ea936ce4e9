"""The BlobStore over S3: the minio client on a few threads; relies on nothing that only some S3 servers do."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from prometheus_client import Counter, Histogram

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.storage.ports.blobs import Blob, BlobPart
from runyard_server.storage.s3_signing import Presigner

T = TypeVar("T")

S3_FAILURES = Counter(
    "runyard_s3_failures_total", "Calls to the object store that failed.", ["code"]
)
S3_SECONDS = Histogram(
    "runyard_s3_seconds",
    "Time of calls to the object store, the wait for a thread included.",
    ["call"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
_MISSING_OBJECT = frozenset({"NoSuchKey", "NoSuchObject", "404"})
_MISSING_UPLOAD = frozenset(
    {"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "NoSuchKey"}
)
_LIST_PARTS_COUNT = 1000
_DELETE_COUNT_MAX = 1000
"""Keys that one DeleteObjects request may name."""
_LIST_COUNT_MIN = 3
"""From so many objects of one folder on they are looked for in its listing, and not one by one."""
_LIST_COUNT_FACTOR = 2
"""How many times as many objects as are looked for a listing may have before it is given up."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where the bucket is and how it is reached."""

    endpoint: str
    """HOST:PORT, as this process reaches it."""
    access_key: str
    secret_key: str
    bucket: str
    region: str = "us-east-1"
    is_secure: bool = False
    public_endpoint: str = ""
    """HOST:PORT that presigned URLs name, as browsers and agents reach it. Empty: the endpoint."""
    public_is_secure: bool | None = None
    """Whether presigned URLs are https. None: as `is_secure`."""
    thread_count: int = 8
    """Calls in flight."""
    pending_max: int = 4096
    """Calls that may wait for a thread; more are refused."""
    call_timeout_s: float = 30.0
    """Longest wait for one call, its queue included."""
    connect_timeout_s: float = 5.0
    """Longest wait for a connection."""


class S3BlobStore:
    """Keeps objects in one bucket of an S3 server; see the port BlobStore."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        clock: Clock,
        reclaim: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._reclaim = reclaim
        self._clock = clock
        self._threads = ThreadPoolExecutor(settings.thread_count, thread_name_prefix="s3")
        self._pool = urllib3.PoolManager(
            maxsize=settings.thread_count,
            timeout=urllib3.Timeout(
                connect=settings.connect_timeout_s, read=settings.call_timeout_s
            ),
            retries=False,
        )
        self._client = self._make_client(settings.endpoint, is_secure=settings.is_secure)
        public_is_secure = settings.public_is_secure
        self._bucket = settings.bucket
        public = self._make_client(
            settings.public_endpoint or settings.endpoint,
            is_secure=settings.is_secure if public_is_secure is None else public_is_secure,
        )
        self._signer = Presigner(
            # No network: the region is given.
            public.get_presigned_url("GET", settings.bucket, "x"),
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            region=settings.region,
        )
        self._pending_count = 0
        self.list_parts_count = _LIST_PARTS_COUNT
        """Parts that are asked for at once."""

    async def start(self) -> None:
        """Makes the bucket if there is none."""
        await self._call("start", self._make_bucket)

    async def stop(self) -> None:
        """Waits for calls in flight and closes connections."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, partial(self._threads.shutdown, cancel_futures=True))
        self._pool.clear()

    async def put(self, key: str, content: bytes, *, content_type: str) -> Blob:
        """Stores the object; durable when it returns."""
        return await self._call("put", self._put, key, content, content_type)

    async def get(self, key: str) -> bytes | None:
        """Returns the object's bytes, or None if there is none."""
        return await self._call("get", self._get, key)

    async def get_range(self, key: str, offset: int, length: int) -> bytes | None:
        """Returns up to `length` of the object's bytes from `offset` on, none from its end on; None if there is no object."""
        return await self._call("get_range", self._get, key, offset, length)

    async def find(self, key: str) -> Blob | None:
        """Returns what is known of the object, or None if there is none."""
        return await self._call("find", self._find, key)

    async def find_all(self, keys: Sequence[str]) -> list[Blob | None]:
        """Returns what is known of each object, or None; those of one folder are looked for together."""
        folders: dict[str, list[str]] = {}
        for key in keys:
            folders.setdefault(key.rpartition("/")[0], []).append(key)
        listings = [
            self._call("list", self._list_folder, f"{folder}/", len(inside) * _LIST_COUNT_FACTOR)
            for folder, inside in folders.items()
            if folder and len(inside) >= _LIST_COUNT_MIN
        ]
        found = {blob.key: blob for blobs in await asyncio.gather(*listings) for blob in blobs}
        rest = [key for key in dict.fromkeys(keys) if key not in found]
        # A listing may lag behind, or be longer than what was read of it: each object that it lacks is asked for itself.
        for key, blob in zip(rest, await asyncio.gather(*map(self.find, rest)), strict=True):
            if blob is not None:
                found[key] = blob
        return [found.get(key) for key in keys]

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; keys without one are passed over."""
        for first in range(0, len(keys), _DELETE_COUNT_MAX):
            await self._call("delete", self._delete, keys[first : first + _DELETE_COUNT_MAX])

    async def reclaim(self) -> None:
        """Has a local server give the room of removed objects back; does nothing for a store that somebody else runs."""
        if self._reclaim is not None:
            await self._reclaim()

    async def list_blobs(self, prefix: str, *, limit: int) -> list[Blob]:
        """Returns objects whose keys begin so, by the bytes of their keys; content types are left empty."""
        return await self._call("list_blobs", self._list, prefix, limit)

    async def start_multipart(self, key: str, *, content_type: str) -> str:
        """Returns the id of a new multipart upload."""
        return await self._call("start_multipart", self._start_multipart, key, content_type)

    async def put_part(self, key: str, multipart_id: str, part_number: int, content: bytes) -> str:
        """Stores one part of a multipart upload."""
        return await self._call("put_part", self._put_part, key, multipart_id, part_number, content)

    async def list_parts(self, key: str, multipart_id: str) -> list[BlobPart] | None:
        """Returns the parts that have arrived, by number; None if the upload is not known."""
        return await self._call("list_parts", self._list_parts, key, multipart_id)

    async def complete_multipart(
        self, key: str, multipart_id: str, part_etags: Sequence[str]
    ) -> Blob | None:
        """Joins the parts into the object; None if the upload is not known or a part is missing or another."""
        return await self._call(
            "complete_multipart", self._complete_multipart, key, multipart_id, part_etags
        )

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drops an upload and its parts; an unknown one is passed over."""
        await self._call("abort_multipart", self._abort_multipart, key, multipart_id)

    async def sign_put(self, key: str, *, expiry_s: int) -> str:
        """Returns a URL to which whoever holds it can PUT the object."""
        return self._sign("PUT", key, expiry_s, {})

    async def sign_part_put(
        self, key: str, multipart_id: str, part_number: int, *, expiry_s: int
    ) -> str:
        """Returns a URL for one part of a multipart upload."""
        query = {"partNumber": str(part_number), "uploadId": multipart_id}
        return self._sign("PUT", key, expiry_s, query)

    async def sign_get(
        self, key: str, *, expiry_s: int, content_type: str, disposition: str
    ) -> str:
        """Returns a URL that answers a GET with the bytes under these headers."""
        query = {
            "response-content-type": content_type,
            "response-content-disposition": disposition,
        }
        return self._sign("GET", key, expiry_s, query)

    def _sign(self, method: str, key: str, expiry_s: int, query: dict[str, str]) -> str:
        time_unix_s = self._clock.now_unix_ns() / 1e9
        return self._signer.sign(method, key, query, expiry_s=expiry_s, time_unix_s=time_unix_s)

    def _make_client(self, endpoint: str, *, is_secure: bool) -> Minio:
        return Minio(
            endpoint,
            access_key=self._settings.access_key,
            secret_key=self._settings.secret_key,
            region=self._settings.region,
            secure=is_secure,
            http_client=self._pool,
        )

    async def _call(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        if self._pending_count >= self._settings.pending_max:
            S3_FAILURES.labels("queue_full").inc()
            raise ResourceExhausted(
                "QUEUE_FULL",
                f"{self._pending_count} calls wait for the object store; repeat in a second",
                metadata={"queue": "s3", "limit": self._settings.pending_max},
                retry_delay_s=1.0,
            )
        self._pending_count += 1
        start_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._settings.call_timeout_s):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, partial(function, *arguments))
        except TimeoutError:
            raise _unavailable(
                "timeout", f"did not answer within {self._settings.call_timeout_s:g} s"
            ) from None
        except S3Error as error:
            code = str(error.code)
            raise _unavailable(code, f"refused {name}: {code} {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _unavailable(type(error).__name__, f"does not answer: {error}") from error
        finally:
            self._pending_count -= 1
            S3_SECONDS.labels(name).observe(self._clock.monotonic_s() - start_s)

    def _make_bucket(self) -> None:
        if self._client.bucket_exists(self._bucket):
            return
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            # Another process was faster.
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def _put(self, key: str, content: bytes, content_type: str) -> Blob:
        done = self._client.put_object(
            self._bucket, key, io.BytesIO(content), len(content), content_type=content_type
        )
        return Blob(key, len(content), _bare(done.etag), content_type)

    def _get(self, key: str, offset: int = 0, length: int = 0) -> bytes | None:
        """Returns the bytes, from `offset` on and not more than `length` if that is not 0."""
        try:
            response = self._client.get_object(self._bucket, key, offset=offset, length=length)
        except S3Error as error:
            if error.code in _MISSING_OBJECT:
                return None
            if error.code == "InvalidRange":
                return b""
            raise
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def _find(self, key: str) -> Blob | None:
        try:
            found = self._client.stat_object(self._bucket, key)
        except S3Error as error:
            if error.code in _MISSING_OBJECT:
                return None
            raise
        return Blob(key, found.size or 0, _bare(found.etag), found.content_type or "")

    def _delete(self, keys: Sequence[str]) -> None:
        objects = [DeleteObject(key) for key in keys]
        for error in self._client.remove_objects(self._bucket, objects):
            if error.code not in _MISSING_OBJECT:
                raise _unavailable(
                    str(error.code), f"kept {error.name}: {error.code} {error.message}"
                )

    def _list_folder(self, prefix: str, limit: int) -> list[Blob]:
        """Returns up to `limit` objects of a folder, in any order."""
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        return [
            Blob(item.object_name, item.size or 0, _bare(item.etag), "")
            for item in islice(found, limit)
            if not item.is_dir
        ]

    def _list(self, prefix: str, limit: int) -> list[Blob]:
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        # Servers disagree on the order of listings, so a limit can only cut what was sorted here.
        blobs = [
            Blob(item.object_name, item.size or 0, _bare(item.etag), "")
            for item in islice(found, 1_000_000)
            if not item.is_dir
        ]
        return sorted(blobs, key=lambda blob: blob.key.encode())[:limit]

    def _start_multipart(self, key: str, content_type: str) -> str:
        upload_id: str = self._client._create_multipart_upload(
            self._bucket, key, {"Content-Type": content_type}
        )
        return upload_id

    def _put_part(self, key: str, multipart_id: str, part_number: int, content: bytes) -> str:
        etag = self._client._upload_part(
            self._bucket, key, content, None, multipart_id, part_number
        )
        return _bare(etag)

    def _list_parts(self, key: str, multipart_id: str) -> list[BlobPart] | None:
        found: list[BlobPart] = []
        marker: str | None = None
        while True:
            try:
                page = self._client._list_parts(
                    self._bucket,
                    key,
                    multipart_id,
                    max_parts=self.list_parts_count,
                    part_number_marker=marker,
                )
            except S3Error as error:
                if error.code in _MISSING_UPLOAD:
                    return None
                raise
            found.extend(
                BlobPart(part.part_number, part.size or 0, _bare(part.etag)) for part in page.parts
            )
            next_marker = str(page.next_part_number_marker or "")
            # A server that repeats the marker would be asked for ever.
            if not page.is_truncated or next_marker in ("", "0", marker):
                return sorted(found, key=lambda part: part.number)
            marker = next_marker

    def _complete_multipart(
        self, key: str, multipart_id: str, part_etags: Sequence[str]
    ) -> Blob | None:
        parts = [Part(number, _bare(etag)) for number, etag in enumerate(part_etags, start=1)]
        try:
            self._client._complete_multipart_upload(self._bucket, key, multipart_id, parts)
        except S3Error as error:
            if error.code in _MISSING_UPLOAD:
                return None
            raise
        return self._find(key)

    def _abort_multipart(self, key: str, multipart_id: str) -> None:
        try:
            self._client._abort_multipart_upload(self._bucket, key, multipart_id)
        except S3Error as error:
            if error.code not in _MISSING_UPLOAD:
                raise


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def _unavailable(code: str, problem: str) -> Unavailable:
    S3_FAILURES.labels(code).inc()
    return Unavailable(
        "STORE_UNAVAILABLE",
        f"the object store {problem}; repeat later",
        metadata={"store": "s3"},
        retry_delay_s=1.0,
    )
