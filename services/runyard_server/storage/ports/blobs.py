"""Promises of the store of objects: bytes under keys, and URLs that let others read and write them for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Blob:
    """What the store says of an object; `etag` without quotes."""

    key: str
    size_bytes: int
    etag: str
    content_type: str


@dataclass(frozen=True, slots=True)
class BlobPart:
    """A part of a multipart upload that has arrived; `etag` without quotes."""

    number: int
    size_bytes: int
    etag: str


class BlobStore(Protocol):
    """Keeps objects. Raises Unavailable if the store does not answer in time.

    Keys are 1 to 1,024 bytes, parts between `/` at most 255; no key MUST be a folder of another ("a" and "a/b"). A write
    of a key replaces the object whole; a reader sees the old or the new one. Nothing here relies on conditional writes.
    """

    async def start(self) -> None:
        """Makes ready, and the bucket if there is none. Safe to repeat."""
        ...

    async def stop(self) -> None:
        """Waits for what is in flight and lets go of threads and connections."""
        ...

    async def put(self, key: str, content: bytes, *, content_type: str) -> Blob:
        """Stores the object; durable when it returns."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Returns the object's bytes, or None if there is none."""
        ...

    async def get_range(self, key: str, offset: int, length: int) -> bytes | None:
        """Returns up to `length` (at least 1) of the object's bytes from `offset` on, none from its end on; None if there is no object."""
        ...

    async def find(self, key: str) -> Blob | None:
        """Returns what is known of the object, or None if there is none."""
        ...

    async def find_all(self, keys: Sequence[str]) -> list[Blob | None]:
        """Returns what is known of each object, or None; content types may be left empty.

        Few calls suffice for many keys of one folder that has not many more. What is told MUST come from the store as it is
        now, never from memory.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; keys without one are passed over."""
        ...

    async def reclaim(self) -> None:
        """Asks the store to give the room of removed objects back to the disk now, where it would take its time; may do nothing."""
        ...

    async def list_blobs(self, prefix: str, *, limit: int) -> list[Blob]:
        """Returns objects whose keys begin so, by the bytes of their keys (content types may be left empty)."""
        ...

    async def start_multipart(self, key: str, *, content_type: str) -> str:
        """Returns the id of a new multipart upload. No object is there until it is completed."""
        ...

    async def put_part(self, key: str, multipart_id: str, part_number: int, content: bytes) -> str:
        """Stores one part, numbered from 1, of a multipart upload, and returns its ETag."""
        ...

    async def list_parts(self, key: str, multipart_id: str) -> list[BlobPart] | None:
        """Returns the parts that have arrived, by number; None if the upload is not known (completed, aborted)."""
        ...

    async def complete_multipart(
        self, key: str, multipart_id: str, part_etags: Sequence[str]
    ) -> Blob | None:
        """Joins the parts, in order, into the object; None if the upload is not known (completed, aborted) or a part is missing or other than its ETag."""
        ...

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drops an upload and its parts; an unknown one is passed over."""
        ...

    async def sign_put(self, key: str, *, expiry_s: int) -> str:
        """Returns a URL to which whoever holds it can PUT the object (with a Content-Length) for that long."""
        ...

    async def sign_part_put(
        self, key: str, multipart_id: str, part_number: int, *, expiry_s: int
    ) -> str:
        """Returns a URL for one part, numbered from 1, of a multipart upload."""
        ...

    async def sign_get(
        self, key: str, *, expiry_s: int, content_type: str, disposition: str
    ) -> str:
        """Returns a URL that answers a GET with the bytes under these Content-Type and Content-Disposition headers."""
        ...
