"""Uploads: how a file is cut into parts, where its bytes go, and whether what arrived is what was announced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from runyard_server.domain.errors import FailedPrecondition, InvalidArgument
from runyard_server.domain.run import RunKey
from runyard_server.files.names import check_file_name, choose_content_type
from runyard_server.storage.ports.blobs import Blob, BlobPart

FILE_BYTES_MAX: Final = 5 * 1024**4
"""What S3 allows for one object."""
PART_COUNT_MAX: Final = 1024
"""Parts of an upload; S3 allows 10,000, but each needs a URL of some 500 bytes in one reply."""
PART_BYTES_MIN: Final = 5 * 1024**2
PART_BYTES_MAX: Final = 5 * 1024**3
"""What S3 takes as a part that is not the last."""
_SHA256_BYTES: Final = 32
_MD5_BYTES: Final = 16
_MIB: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Announcement:
    """A file that a client wants to send."""

    name: str
    size_bytes: int
    sha256: bytes
    content_type: str
    part_md5s: tuple[bytes, ...] = ()
    part_bytes: int = 0
    """Size of the parts that the client would like; 0: the server decides."""


class Upload(Protocol):
    """What was announced of bytes on their way: of a file of a run, or of a content of an artifact."""

    @property
    def name(self) -> str:
        """Returns what errors call it."""
        ...

    @property
    def object_key(self) -> str:
        """Returns where the bytes go."""
        ...

    @property
    def size_bytes(self) -> int:
        """Returns how many bytes there are."""
        ...

    @property
    def part_bytes(self) -> int:
        """Returns the size of all parts but the last."""
        ...

    @property
    def part_count(self) -> int:
        """Returns how many parts there are."""
        ...

    @property
    def part_md5s(self) -> tuple[bytes, ...]:
        """Returns the MD5 of each part; nothing if none were announced."""
        ...

    @property
    def multipart_id(self) -> str:
        """Returns the id of the object store's multipart upload; empty for a single PUT."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """How a file is cut: all parts but the last have `part_bytes`."""

    part_bytes: int
    part_count: int


def check_announcement(ask: Announcement, *, size_bytes_max: int) -> Announcement:
    """Returns the announcement with its name in NFC and a media type; raises InvalidArgument for what no file can be."""
    check_size(ask.name, ask.size_bytes, size_bytes_max=size_bytes_max)
    check_digests(ask.sha256, ask.part_md5s)
    name = check_file_name(ask.name)
    content_type = choose_content_type(name, ask.content_type)
    return replace(ask, name=name, content_type=content_type)


def check_size(name: str, size_bytes: int, *, size_bytes_max: int) -> None:
    """Raises InvalidArgument for more bytes than an object may have."""
    limit = min(size_bytes_max, FILE_BYTES_MAX)
    if size_bytes > limit:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"file {name[:256]!r} has {size_bytes} bytes, at most {limit} are allowed",
            metadata={"field": "size_bytes", "value": size_bytes, "limit": limit},
        )


def check_digests(sha256: bytes, part_md5s: Sequence[bytes]) -> None:
    """Raises InvalidArgument for digests of another length than theirs."""
    check_digest("sha256", sha256, _SHA256_BYTES)
    for md5 in part_md5s:
        check_digest("part_md5s", md5, _MD5_BYTES)


def cut_into_parts(size_bytes: int, *, part_bytes_min: int, wanted_bytes: int = 0) -> Parts:
    """Returns how a file of that size is sent: at once up to `part_bytes_min`, else in equal parts of whole MiB.

    In parts of `wanted_bytes` where a client asks for that, and S3 and the length of a reply allow it.
    """
    is_possible = PART_BYTES_MIN <= wanted_bytes <= PART_BYTES_MAX
    if is_possible and size_bytes <= wanted_bytes * PART_COUNT_MAX:
        part_bytes_min = wanted_bytes
    if size_bytes <= part_bytes_min:
        return Parts(part_bytes=size_bytes, part_count=1)
    needed_bytes = -(-size_bytes // PART_COUNT_MAX)
    part_bytes = max(part_bytes_min, -(-needed_bytes // _MIB) * _MIB)
    return Parts(part_bytes=part_bytes, part_count=-(-size_bytes // part_bytes))


def check_part_md5s(name: str, part_md5s: Sequence[bytes], parts: Parts) -> None:
    """Raises InvalidArgument if MD5s were announced, but not one for each part."""
    if part_md5s and len(part_md5s) != parts.part_count:
        raise InvalidArgument(
            "COLUMN_LENGTH_MISMATCH",
            f"part_md5s has {len(part_md5s)} entries, but file {name!r} is sent in {parts.part_count} parts of "
            f"{parts.part_bytes} bytes; send one MD5 for each, or none",
            metadata={"field": "part_md5s", "value": len(part_md5s), "limit": parts.part_count},
        )


def arrived_etags(
    upload: Upload, parts: Sequence[BlobPart], *, is_etag_md5: bool
) -> tuple[str, ...]:
    """Returns the ETag of each part that has arrived whole and as announced, "" for each that must be sent."""
    etags = [""] * upload.part_count
    for part in parts:
        if not 1 <= part.number <= upload.part_count:
            continue
        index = part.number - 1
        left_bytes = upload.size_bytes - index * upload.part_bytes
        is_whole = part.size_bytes == min(upload.part_bytes, left_bytes)
        # Without MD5s nobody can tell whether what has arrived is of the file as it is now.
        is_known = is_etag_md5 and bool(upload.part_md5s)
        if is_whole and is_known and upload.part_md5s[index].hex() == bare_etag(part.etag):
            etags[index] = part.etag
    return tuple(etags)


def make_object_key(run_key: RunKey, sha256: bytes, upload_id: str, *, folder: str = "") -> str:
    """Returns where the bytes of an upload lie; `folder`, which ends with a slash, holds those that were announced together.

    The upload's id is in it: nobody who announces the same SHA-256 with other bytes can overwrite a file that is there. No
    key is another's folder, and no part comes near 255 bytes.
    """
    return f"runs/{run_key:016x}/blobs/{folder}{sha256.hex()}-{upload_id}"


def check_etags(upload: Upload, etags: Sequence[str], *, is_etag_md5: bool) -> None:
    """Raises InvalidArgument for a wrong number of ETags, FailedPrecondition for parts that are not what was announced."""
    if len(etags) != upload.part_count:
        raise InvalidArgument(
            "COLUMN_LENGTH_MISMATCH",
            f"part_etags has {len(etags)} entries, but file {upload.name!r} was announced in {upload.part_count} parts",
            metadata={"field": "part_etags", "value": len(etags), "limit": upload.part_count},
        )
    if not is_etag_md5:
        return
    for number, (md5, etag) in enumerate(zip(upload.part_md5s, etags, strict=False), start=1):
        if md5.hex() != bare_etag(etag):
            raise content_mismatch(
                upload, f"MD5 of part {number}", bare_etag(etag)[:128], md5.hex()
            )


def check_arrived(
    upload: Upload, arrived: Blob | None, etags: Sequence[str], *, is_etag_md5: bool
) -> None:
    """Raises FailedPrecondition FILE_CONTENT_MISMATCH unless the object is what was announced and sent."""
    if arrived is None:
        raise content_mismatch(upload, "object", "none", "one")
    if arrived.size_bytes != upload.size_bytes:
        raise content_mismatch(upload, "size_bytes", arrived.size_bytes, upload.size_bytes)
    expected = whole_etag(upload, etags)
    if is_etag_md5 and arrived.etag != expected:
        raise content_mismatch(upload, "ETag", arrived.etag, expected)


def whole_etag(upload: Upload, etags: Sequence[str]) -> str:
    """Returns the ETag of the whole object: that of the single PUT, or S3's formula for multipart uploads.

    The formula is the MD5 of the parts' MD5s, a dash and the number of parts.
    """
    if not upload.multipart_id:
        return bare_etag(etags[0])
    try:
        digests = b"".join(bytes.fromhex(bare_etag(etag)) for etag in etags)
    except ValueError:
        raise InvalidArgument(
            "FIELD_INVALID",
            "part_etags holds an entry that is no ETag of an uploaded part",
            metadata={"field": "part_etags", "value": str(list(etags))[:256]},
        ) from None
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def bare_etag(etag: str) -> str:
    """Returns the ETag without quotes and the mark of a weak one, in lower case."""
    return etag.strip().removeprefix("W/").strip('"').lower()


def content_mismatch(
    upload: Upload, field: str, found: object, announced: object
) -> FailedPrecondition:
    """Returns the error for bytes that are not what was announced."""
    return FailedPrecondition(
        "FILE_CONTENT_MISMATCH",
        f"file {upload.name!r}: {field} is {found}, announced was {announced}; the file may have changed while it was "
        "sent: announce it again and send it anew",
        metadata={"file": upload.name, "field": field, "value": found, "limit": announced},
    )


def check_digest(field: str, digest: bytes, size_bytes: int) -> None:
    """Raises InvalidArgument for a digest of another length."""
    if len(digest) != size_bytes:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"{field} has {len(digest)} bytes, must have {size_bytes}",
            metadata={"field": field, "value": len(digest), "limit": size_bytes},
        )
