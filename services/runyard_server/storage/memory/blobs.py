"""The reference of BlobStore: a dictionary, and the other end of its presigned URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from runyard_server.domain.clock import Clock
from runyard_server.storage.ports.blobs import Blob, BlobPart

_ORIGIN = "http://memory.invalid"


@dataclass(frozen=True, slots=True)
class _Object:
    content: bytes
    etag: str
    content_type: str


@dataclass(slots=True)
class _Multipart:
    key: str
    content_type: str
    parts: dict[int, bytes] = field(default_factory=dict)


class MemoryBlobStore:
    """Keeps objects in memory; `answer` stands for the server that presigned URLs name."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._multiparts: dict[str, _Multipart] = {}
        self._multipart_count = 0

    async def start(self) -> None:
        """Does nothing."""

    async def stop(self) -> None:
        """Does nothing."""

    async def put(self, key: str, content: bytes, *, content_type: str) -> Blob:
        """Stores the object."""
        self._objects[key] = _Object(content, _md5(content), content_type)
        return self._blob(key)

    async def get(self, key: str) -> bytes | None:
        """Returns the object's bytes, or None if there is none."""
        found = self._objects.get(key)
        return None if found is None else found.content

    async def get_range(self, key: str, offset: int, length: int) -> bytes | None:
        """Returns up to `length` of the object's bytes from `offset` on, none from its end on; None if there is no object."""
        found = self._objects.get(key)
        return None if found is None else found.content[offset : offset + length]

    async def find(self, key: str) -> Blob | None:
        """Returns what is known of the object, or None if there is none."""
        return self._blob(key) if key in self._objects else None

    async def find_all(self, keys: Sequence[str]) -> list[Blob | None]:
        """Returns what is known of each object, or None."""
        return [await self.find(key) for key in keys]

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; keys without one are passed over."""
        for key in keys:
            self._objects.pop(key, None)

    async def reclaim(self) -> None:
        """Does nothing: what is removed is gone."""

    async def list_blobs(self, prefix: str, *, limit: int) -> list[Blob]:
        """Returns objects whose keys begin so, by the bytes of their keys."""
        found = sorted((key for key in self._objects if key.startswith(prefix)), key=str.encode)
        return [self._blob(key) for key in found[:limit]]

    async def start_multipart(self, key: str, *, content_type: str) -> str:
        """Returns the id of a new multipart upload."""
        self._multipart_count += 1
        multipart_id = f"multipart-{self._multipart_count}"
        self._multiparts[multipart_id] = _Multipart(key, content_type)
        return multipart_id

    async def put_part(self, key: str, multipart_id: str, part_number: int, content: bytes) -> str:
        """Stores one part of a multipart upload."""
        self._multiparts[multipart_id].parts[part_number] = content
        return _md5(content)

    async def list_parts(self, key: str, multipart_id: str) -> list[BlobPart] | None:
        """Returns the parts that have arrived, by number; None if the upload is not known."""
        found = self._multiparts.get(multipart_id)
        if found is None or found.key != key:
            return None
        parts = sorted(found.parts.items())
        return [BlobPart(number, len(content), _md5(content)) for number, content in parts]

    async def complete_multipart(
        self, key: str, multipart_id: str, part_etags: Sequence[str]
    ) -> Blob | None:
        """Joins the parts into the object; None if the upload is not known or a part is missing or another."""
        found = self._multiparts.get(multipart_id)
        if found is None or found.key != key:
            return None
        parts = [found.parts.get(number, b"") for number in range(1, len(part_etags) + 1)]
        if [_md5(part) for part in parts] != [etag.strip('"') for etag in part_etags]:
            return None
        del self._multiparts[multipart_id]
        digest = _md5(b"".join(hashlib.md5(part).digest() for part in parts))
        etag = f"{digest}-{len(parts)}"
        self._objects[key] = _Object(b"".join(parts), etag, found.content_type)
        return self._blob(key)

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drops an upload and its parts; an unknown one is passed over."""
        self._multiparts.pop(multipart_id, None)

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

    def answer(
        self, method: str, url: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers and body for a request to a presigned URL, as an S3 server would."""
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        key = query["key"]
        is_late = self._clock.monotonic_s() > float(query["until"])
        if method != query["method"] or is_late:
            return 403, {}, b""
        if method == "GET":
            found = self._objects.get(key)
            if found is None:
                return 404, {}, b""
            names = {
                "Content-Type": "response-content-type",
                "Content-Disposition": "response-content-disposition",
            }
            return 200, {name: query[member] for name, member in names.items()}, found.content
        if "uploadId" in query:
            multipart = self._multiparts.get(query["uploadId"])
            if multipart is None:
                return 404, {}, b""
            multipart.parts[int(query["partNumber"])] = content
        else:
            content_type = (headers or {}).get("Content-Type", "application/octet-stream")
            self._objects[key] = _Object(content, _md5(content), content_type)
        return 200, {"ETag": f'"{_md5(content)}"'}, b""

    def _sign(self, method: str, key: str, expiry_s: int, query: dict[str, str]) -> str:
        until = self._clock.monotonic_s() + expiry_s
        full = {"key": key, "method": method, "until": repr(until), **query}
        return f"{_ORIGIN}/{quote(key)}?{urlencode(full)}"

    def _blob(self, key: str) -> Blob:
        found = self._objects[key]
        return Blob(key, len(found.content), found.etag, found.content_type)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
