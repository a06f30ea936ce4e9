"""Contents of artifacts on their way: announced by a draft, sent straight to the object store, completed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import Counter

from runyard_server.domain.artifacts import Draft, draft_committed, no_draft
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, InvalidArgument, NotFound
from runyard_server.domain.manifests import content_id
from runyard_server.files import uploads
from runyard_server.files.artifact_names import check_count, invalid
from runyard_server.files.transfers import Transfers
from runyard_server.storage.ports.artifacts import ArtifactStore, ContentUpload

CONTENT_COUNT_MAX = 1000
"""Contents of one request."""
PART_COUNT_MAX = 5_000
"""Parts of all contents of one request together; each needs a URL of some 500 bytes in the reply."""
_CALLS_MAX = 16
_CONTENT_TYPE = "application/octet-stream"

UPLOADS = Counter(
    "runyard_content_uploads_total",
    "Uploads of contents of artifacts announced, continued and completed, by result.",
    ["result"],
)
UPLOADED_BYTES = Counter(
    "runyard_content_uploaded_bytes_total", "Bytes of completed uploads of contents."
)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ContentAsk:
    """A content that a client wants to send."""

    sha256: bytes
    size_bytes: int
    part_md5s: tuple[bytes, ...] = ()
    part_bytes: int = 0
    """Size of the parts that the client would like; 0: the server decides."""

    @property
    def content_id(self) -> bytes:
        """Returns what names it in its project."""
        return content_id(self.sha256, self.size_bytes)

    @property
    def name(self) -> str:
        """Returns what errors call it."""
        return f"sha256:{self.sha256.hex()}"


@dataclass(frozen=True, slots=True)
class PlannedContent:
    """Where a content goes; `upload` is None if it has arrived already."""

    upload: ContentUpload | None
    part_urls: tuple[str, ...] = ()
    part_etags: tuple[str, ...] = ()
    """ETags of parts that are there already, "" for the others; empty if none is."""


class Contents:
    """Announces and completes uploads of contents."""

    def __init__(
        self,
        *,
        store: ArtifactStore,
        transfers: Transfers,
        clock: Clock,
        size_bytes_max: int,
        part_bytes_min: int,
    ) -> None:
        self._store = store
        self._transfers = transfers
        self._clock = clock
        self._size_bytes_max = size_bytes_max
        self._part_bytes_min = part_bytes_min

    async def create(self, draft_id: str, asks: Sequence[ContentAsk]) -> list[PlannedContent]:
        """Announces contents of a draft's entries and returns where to send them. Safe to repeat: what was begun goes on."""
        check_count("contents", len(asks), CONTENT_COUNT_MAX)
        parts = {ask.content_id: self._check(ask) for ask in asks}
        count = sum(one.part_count for one in parts.values())
        if count > PART_COUNT_MAX:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"contents are sent in {count} parts, at most {PART_COUNT_MAX} fit one request; announce fewer at once",
                metadata={"field": "contents", "value": count, "limit": PART_COUNT_MAX},
            )
        draft = await self._store.find_draft(draft_id)
        if draft is None:
            raise no_draft(draft_id)
        if draft.version is not None:
            raise draft_committed(draft)
        wanted = {ask.content_id: ask for ask in asks}
        known = await self._store.find_contents(draft.artifact.project_path, wanted.keys())
        for key, ask in wanted.items():
            if key not in known:
                raise invalid(
                    "contents",
                    ask.name,
                    "is the content of no entry of the draft; add its entry first",
                )
        missing = {key: ask for key, ask in wanted.items() if known[key] is None}
        planned = await self._plan(draft, missing, parts)
        UPLOADS.labels("present").inc(len(wanted) - len(missing))
        return [planned.get(ask.content_id, PlannedContent(None)) for ask in asks]

    def _check(self, ask: ContentAsk) -> uploads.Parts:
        uploads.check_digests(ask.sha256, ask.part_md5s)
        uploads.check_size(ask.name, ask.size_bytes, size_bytes_max=self._size_bytes_max)
        parts = uploads.cut_into_parts(
            ask.size_bytes, part_bytes_min=self._part_bytes_min, wanted_bytes=ask.part_bytes
        )
        uploads.check_part_md5s(ask.name, ask.part_md5s, parts)
        return parts

    async def _plan(
        self, draft: Draft, missing: dict[bytes, ContentAsk], parts: dict[bytes, uploads.Parts]
    ) -> dict[bytes, PlannedContent]:
        if not missing:
            return {}
        now_unix_ns = self._clock.now_unix_ns()
        begun = await self._find_begun(draft, missing, parts)
        # What the purge has forgotten meanwhile cannot go on.
        renewed = await self._store.renew_uploads(
            draft.draft_id,
            [upload.upload_id for upload, _ in begun.values()],
            time_unix_ns=now_unix_ns,
        )
        begun = {key: one for key, one in begun.items() if one[0].upload_id in renewed}
        fresh = [key for key in missing if key not in begun]
        # Objects that are asked for together later lie together: the store then lists them in one answer.
        folder = f"{self._clock.random_bits(64):016x}/" if len(fresh) > 1 else ""
        new = await _gather(fresh, lambda key: self._begin(draft, missing[key], parts[key], folder))
        await self._store.insert_uploads(new)
        UPLOADS.labels("continued").inc(len(begun))
        UPLOADS.labels("announced").inc(len(new))
        planned = {one.content_id: (one, ()) for one in new} | begun
        return {
            key: PlannedContent(upload, await self._transfers.sign(upload), etags)
            for key, (upload, etags) in planned.items()
        }

    async def _find_begun(
        self, draft: Draft, missing: dict[bytes, ContentAsk], parts: dict[bytes, uploads.Parts]
    ) -> dict[bytes, tuple[ContentUpload, tuple[str, ...]]]:
        """Returns uploads of the draft that can go on, with the ETags of the parts that are there."""
        found = await self._store.find_open_uploads(draft.draft_id, missing.keys())
        same = [
            (key, upload)
            for key, upload in found.items()
            if (upload.part_bytes, upload.part_md5s)
            == (parts[key].part_bytes, missing[key].part_md5s)
        ]
        arrived = await _gather(same, lambda one: self._transfers.find_arrived(one[1]))
        return {
            key: (upload, etags)
            for (key, upload), etags in zip(same, arrived, strict=True)
            if etags is not None
        }

    async def _begin(
        self, draft: Draft, ask: ContentAsk, parts: uploads.Parts, folder: str
    ) -> ContentUpload:
        upload_id = f"{self._clock.random_bits(128):032x}"
        project_path = draft.artifact.project_path
        object_key = make_object_key(project_path, ask.sha256, upload_id, folder=folder)
        return ContentUpload(
            upload_id=upload_id,
            draft_id=draft.draft_id,
            project_path=project_path,
            content_id=ask.content_id,
            object_key=object_key,
            size_bytes=ask.size_bytes,
            part_bytes=parts.part_bytes,
            part_count=parts.part_count,
            part_md5s=ask.part_md5s,
            multipart_id=await self._transfers.begin(object_key, parts, content_type=_CONTENT_TYPE),
            create_time_unix_ns=self._clock.now_unix_ns(),
        )

    async def complete(self, sent: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Ends uploads, given as id and ETags of the parts. Safe to repeat; if one is refused, the others are taken."""
        check_count("uploads", len(sent), CONTENT_COUNT_MAX)
        found = {
            upload.upload_id: upload
            for upload in await self._store.find_uploads([upload_id for upload_id, _ in sent])
        }
        refusals: list[DomainError] = [
            no_upload(upload_id) for upload_id, _ in sent if upload_id not in found
        ]
        known = {upload_id: etags for upload_id, etags in sent if upload_id in found}
        fresh = [upload_id for upload_id in known if not found[upload_id].is_complete]
        received = await self._transfers.receive_all(
            [(found[upload_id], known[upload_id]) for upload_id in fresh]
        )
        outcomes = dict.fromkeys(known) | dict(zip(fresh, received, strict=True))
        arrived = [upload_id for upload_id, error in outcomes.items() if error is None]
        kept = await self._store.complete_uploads(arrived, time_unix_ns=self._clock.now_unix_ns())
        for upload_id in arrived:
            if upload_id not in kept:
                refusals.append(no_upload(upload_id))
            elif not found[upload_id].is_complete:
                UPLOADS.labels("completed").inc()
                UPLOADED_BYTES.inc(found[upload_id].size_bytes)
        refused = [error for error in outcomes.values() if error is not None]
        UPLOADS.labels("refused").inc(len(refused))
        for error in (*refused, *refusals):
            raise error


def make_object_key(project_path: str, sha256: bytes, upload_id: str, *, folder: str = "") -> str:
    """Returns where the bytes of a content lie; `folder`, which ends with a slash, holds those that were announced together.

    The upload's id is in it: nobody who announces the same SHA-256 can overwrite bytes that are there. No key is another's
    folder, and no part comes near 255 bytes.
    """
    project = hashlib.blake2b(project_path.encode(), digest_size=8).hexdigest()
    return f"artifacts/{project}/{folder}{sha256.hex()}-{upload_id}"


def no_upload(upload_id: str) -> NotFound:
    """Returns the error for an upload that is not there."""
    return NotFound(
        "UPLOAD_NOT_FOUND",
        f"there is no upload {upload_id[:64]!r}, or it or its draft was left alone for too long; announce the content again",
        metadata={"upload": upload_id[:64]},
    )


async def _gather(
    items: Sequence[_Item], call: Callable[[_Item], Awaitable[_Result]]
) -> list[_Result]:
    """Returns what the calls return, a few of them at once."""
    gate = asyncio.Semaphore(_CALLS_MAX)

    async def one(item: _Item) -> _Result:
        async with gate:
            return await call(item)

    return await asyncio.gather(*(one(item) for item in items))
