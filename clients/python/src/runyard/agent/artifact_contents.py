"""Sends the contents of artifacts: small ones a hundred at a time, large ones in parts, each checked against its SHA-256."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Iterator, Sequence
from typing import TypeVar

from runyard.agent.content_upload import (
    DIGESTS_AT_ONCE_MAX,
    FILE_CHANGED,
    TRY_COUNT_MAX,
    ContentUploads,
    Progress,
    part_bytes_of,
)
from runyard.agent.ports import Disk, FileDigest, Transport, UploadPlan
from runyard.agent.retry import Repeater, is_repeatable
from runyard.agent.small_files import small_part
from runyard.agent.store_calls import SMALL_BYTES
from runyard.errors import Error, FailedPrecondition, InvalidArgument, Unavailable

GROUP_COUNT_MAX = 500
GROUP_BYTES_MAX = 64 << 20
"""A group of contents is announced, sent and ended together; it has at least one content."""
OLD_GROUP_COUNT_MAX = 100
"""What servers of before take."""
GROUPS_AT_ONCE_MAX = 3
PUTS_AT_ONCE_MAX = 8
T = TypeVar("T")

_CHANGED = ("FILE_CONTENT_MISMATCH", FILE_CHANGED)


@dataclasses.dataclass
class Content:
    """Bytes that an artifact needs."""

    sha256: bytes
    size_bytes: int
    source: str
    """The file that holds them; "" where this disk has none."""
    path: str
    """Of the entry, to name it."""
    digest: FileDigest | None = None


class ContentSender:
    """Sends contents into drafts."""

    def __init__(self, transport: Transport, repeater: Repeater, disk: Disk) -> None:
        self._bytes_sent = 0
        self._on_their_way: list[Progress] = []
        self._parts_sent = 0
        """Repeats too: whether anything gets across."""
        self._transport = transport
        self._repeater = repeater
        self._disk = disk
        self._uploads = ContentUploads(transport, repeater, disk)
        self._groups = asyncio.Semaphore(GROUPS_AT_ONCE_MAX)
        self._puts = asyncio.Semaphore(PUTS_AT_ONCE_MAX)
        self._digests = asyncio.Semaphore(DIGESTS_AT_ONCE_MAX)

    @property
    def bytes_sent(self) -> int:
        """Returns the bytes that this sender has got across, those on their way too."""
        return self._bytes_sent + sum(one.bytes_done for one in self._on_their_way)

    async def send(self, draft_id: str, contents: Sequence[Content]) -> None:
        """Returns when the server has all of them; raises the first failure, Error or OSError."""
        await _all([self._send_group(draft_id, group) for group in _groups(contents)])

    async def _send_group(self, draft_id: str, group: Sequence[Content]) -> None:
        async with self._groups:
            try:
                await self._repeat_group(draft_id, group)
            except InvalidArgument as error:
                if error.reason != "FIELD_TOO_LARGE" or len(group) <= OLD_GROUP_COUNT_MAX:
                    raise
                for first in range(0, len(group), OLD_GROUP_COUNT_MAX):
                    await self._repeat_group(draft_id, group[first : first + OLD_GROUP_COUNT_MAX])

    async def _repeat_group(self, draft_id: str, group: Sequence[Content]) -> None:
        while True:
            sent_before = self._parts_sent
            try:
                await self._repeater.call(
                    lambda: self._try_group(draft_id, group), repeat_count_max=TRY_COUNT_MAX
                )
                return
            except Error as error:
                if not is_repeatable(error) or self._parts_sent == sent_before:
                    raise

    async def _try_group(self, draft_id: str, group: Sequence[Content]) -> None:
        try:
            await self._try_once(draft_id, group)
        except Error as error:
            if error.reason in _CHANGED:
                for content in group:
                    content.digest = (
                        None  # read anew: it says whether the file is still what was added
                    )
            elif error.reason != "UPLOAD_NOT_FOUND":
                raise
            raise Unavailable(error.message, reason="STORE_UNAVAILABLE") from error

    async def _try_once(self, draft_id: str, group: Sequence[Content]) -> None:
        await self._digest_small(group)
        digests = await _all([self._digest(content) for content in group])
        plans = await self._transport.create_content_uploads(draft_id, digests)
        lacked = [
            (content, digest, plan)
            for content, digest, plan in zip(group, digests, plans)
            if not plan.is_present
        ]
        small = [one for one in lacked if _is_small(one[1], one[2])]
        large = [one for one in lacked if not _is_small(one[1], one[2])]
        sent = [self._send_small(small), *(self._send_one(draft_id, *one) for one in large)]
        uploads = [upload for uploads in await _all(sent) for upload in uploads]
        if uploads:
            await self._transport.complete_content_uploads(uploads)

    async def _send_small(
        self, small: Sequence[tuple[Content, FileDigest, UploadPlan]]
    ) -> list[tuple[str, list[str]]]:
        """Sends contents that are one part each; returns their uploads with their ETags. Raises the first failure."""
        jobs = [
            (plan.part_urls[0], small_part(content.source, digest))
            for content, digest, plan in small
        ]
        etags = await self._transport.put_parts(jobs) if jobs else []
        uploads: list[tuple[str, list[str]]] = []
        for (content, _, plan), etag in zip(small, etags):
            if isinstance(etag, str):
                self._bytes_sent += content.size_bytes
                self._parts_sent += 1
                uploads.append((plan.upload_id, [etag]))
        for etag in etags:
            if not isinstance(etag, str):
                raise etag
        return uploads

    async def _send_one(
        self, draft_id: str, content: Content, digest: FileDigest, plan: UploadPlan
    ) -> list[tuple[str, list[str]]]:
        """Sends the parts that the server lacks; returns the upload with its ETags, nothing if none is left to end."""
        async with self._puts:
            if digest.part_md5s and len(plan.part_urls) != len(digest.part_md5s):
                # The server cuts it otherwise: the MD5s are of its parts then.
                digest = content.digest = await self._hashed(content, plan.part_bytes)
                (plan,) = await self._transport.create_content_uploads(draft_id, [digest])
                if plan.is_present:
                    return []
            progress = Progress(bytes_total=content.size_bytes)
            self._on_their_way.append(progress)
            try:
                etags = await self._uploads.send_parts(content.source, digest, plan, progress)
            finally:
                self._on_their_way.remove(progress)
                self._bytes_sent += progress.bytes_there
                self._parts_sent += progress.parts_sent
            return [(plan.upload_id, etags)]

    async def _digest_small(self, group: Sequence[Content]) -> None:
        """Hashes small files together; what is not as it was added is left to `_digest`, which tells of it."""
        wanted = [
            content
            for content in group
            if content.digest is None and content.source and content.size_bytes <= SMALL_BYTES
        ]
        async with self._digests:
            found = await self._disk.digest_all(
                [content.source for content in wanted], size_bytes_max=SMALL_BYTES
            )
        for content, one in zip(wanted, found):
            if one is not None and one[1].sha256 == content.sha256:
                content.digest = one[1]

    async def _digest(self, content: Content) -> FileDigest:
        if content.digest is None:
            content.digest = await self._hashed(content, part_bytes_of(content.size_bytes))
        return content.digest

    async def _hashed(self, content: Content, part_bytes: int) -> FileDigest:
        """Returns the digest of what is on the disk; raises FailedPrecondition if it is not what was added."""
        stamp = self._disk.stamp(content.source) if content.source else None
        if stamp is None:
            where = f"{content.source} is gone" if content.source else "it is not on this disk"
            raise FailedPrecondition(
                f"the content of {content.path!r} cannot be sent: {where}. A file of policy 'immutable' must stay until the "
                f"artifact is a version",
                reason="FILE_NOT_FOUND",
            )
        async with self._digests:
            digest = await self._disk.digest(
                content.source, size_bytes=stamp[0], part_bytes=part_bytes
            )
        if digest.sha256 != content.sha256:
            raise FailedPrecondition(
                f"{content.source} is not what was added as {content.path!r}: it had {content.size_bytes} bytes with SHA-256 "
                f"{content.sha256.hex()}, and has {digest.size_bytes} with {digest.sha256.hex()} now",
                reason="CONTENT_CHANGED",
            )
        return digest


def _is_small(digest: FileDigest, plan: UploadPlan) -> bool:
    """Returns whether a content goes in one part with others."""
    is_new = not any(plan.part_etags)
    return digest.size_bytes <= SMALL_BYTES and len(plan.part_urls) == 1 and is_new


def _groups(contents: Sequence[Content]) -> Iterator[list[Content]]:
    group: list[Content] = []
    size_bytes = 0
    for content in contents:
        is_full = len(group) >= GROUP_COUNT_MAX or size_bytes + content.size_bytes > GROUP_BYTES_MAX
        if group and is_full:
            yield group
            group, size_bytes = [], 0
        group.append(content)
        size_bytes += content.size_bytes
    if group:
        yield group


async def _all(jobs: Sequence[Awaitable[T]]) -> list[T]:
    """Returns what all jobs give; at the first failure ends the others, and raises it when they have ended."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
