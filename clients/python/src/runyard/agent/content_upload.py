"""Sends one content (a file's bytes as they are now) to the object store: in parts, several at once, going on where an earlier try ended."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
from collections.abc import Sequence
from typing import Callable, Protocol

from runyard.agent.ports import Disk, FileDigest, FilePart, Transport, UploadPlan
from runyard.agent.retry import Repeater, is_repeatable
from runyard.errors import Error, InvalidArgument, NotOffered, Unavailable

PART_BYTES = 8 << 20
"""Size of parts; a file up to this size is one. Larger ones make the embedded object store collect garbage all the time."""
PART_COUNT_MAX = 1024
"""Parts of a file; larger files have larger parts."""
PARTS_AT_ONCE_MAX = 3
"""Parts of one content that are sent at once; over all contents the transport bounds their bytes and number."""
DIGESTS_AT_ONCE_MAX = 2
"""Contents that are hashed at once: each takes up to two threads, beside a training process."""
TRY_COUNT_MAX = 8
"""Tries in a row that got nothing across while the server answers; a server that does not answer is waited for."""
CHANGE_COUNT_MAX = 4
"""How often a content may turn out to have changed while it was sent, before it counts as failed."""
STORE_UNREACHABLE = "STORE_UNREACHABLE"
"""Reason of an Unavailable: no connection to the object store, or it stopped taking bytes."""
STORE_REFUSED = "STORE_REFUSED"
"""Reason of an Unavailable: the object store answers, and refuses the request; fresh addresses may help, waiting does not."""
FILE_CHANGED = "FILE_CHANGED"
"""Reason of an error: the file is no longer what was announced."""
_CHANGED = ("FILE_CONTENT_MISMATCH", FILE_CHANGED)
_MIB = 1 << 20

_log = logging.getLogger("runyard.agent")


class Destination(Protocol):
    """Where one content goes: what announces it to the server and makes it visible there. Both are safe to repeat."""

    async def announce(self, digest: FileDigest) -> UploadPlan:
        """Tells the server of the content; the plan says which parts it lacks."""

    async def complete(self, upload_id: str, part_etags: Sequence[str]) -> None:
        """Makes the content visible."""


@dataclasses.dataclass
class Progress:
    """How far one content is. Bytes that the server held already count as done."""

    bytes_total: int = 0
    bytes_there: int = 0
    """Of parts that have arrived."""
    parts_sent: int = 0
    """Parts that were sent, repeats too."""
    in_flight: dict[int, int] = dataclasses.field(default_factory=dict)
    """Bytes sent of parts that have not arrived yet, by index."""

    @property
    def bytes_done(self) -> int:
        """Returns the bytes that have been sent or were there."""
        return self.bytes_there + sum(self.in_flight.values())


@dataclasses.dataclass
class _Job:
    path: str
    destination: Destination
    progress: Progress
    digest: FileDigest | None = None
    stamp: tuple[int, int] | None = None
    """Of the file before it was read for `digest`."""
    change_count: int = 0


class ContentUploads:
    """Sends contents to one server's object store.

    A content is read twice: once for its SHA-256 and the MD5s of its parts, in one pass, and once to be sent. The object
    store refuses other bytes than those of the MD5s, so what is stored is what was hashed. No more than a few MiB of it are
    in memory.
    """

    def __init__(self, transport: Transport, repeater: Repeater, disk: Disk) -> None:
        self._transport = transport
        self._repeater = repeater
        self._disk = disk
        self._digests = asyncio.Semaphore(DIGESTS_AT_ONCE_MAX)

    async def send(
        self,
        path: str,
        destination: Destination,
        *,
        progress: Progress | None = None,
        keeps_on: Callable[[Error], bool] = lambda error: False,
    ) -> FileDigest:
        """Returns what was stored, once it is visible. Raises runyard.errors.Error, OSError if it cannot be read.

        What fails is repeated with growing pauses, for as long as anything gets across; after that `keeps_on` is asked.
        """
        job = _Job(path, destination, progress or Progress())
        while True:
            sent_before = job.progress.parts_sent
            try:
                return await self._repeater.call(
                    lambda: self._try(job), repeat_count_max=TRY_COUNT_MAX
                )
            except Error as error:
                is_moving = job.progress.parts_sent != sent_before
                if not is_repeatable(error) or not (is_moving or keeps_on(error)):
                    raise

    async def send_parts(
        self, path: str, digest: FileDigest, plan: UploadPlan, progress: Progress
    ) -> list[str]:
        """Sends the parts that the plan lacks, several at once; returns the ETags of all. Raises the first failure."""
        etags = list(plan.part_etags) or [""] * len(plan.part_urls)
        parts = [_part(path, digest, plan, index) for index in range(len(etags))]
        sizes = [part.size_bytes for part in parts]
        progress.bytes_there = sum(size for size, etag in zip(sizes, etags) if etag)
        progress.in_flight = {}
        waiting = iter([index for index, etag in enumerate(etags) if not etag])
        failures: list[BaseException] = []

        async def send_some() -> None:
            for index in waiting:
                if failures:
                    return
                try:
                    etags[index] = await self._put(
                        plan.part_urls[index], parts[index], progress, index
                    )
                except (Error, OSError) as error:
                    failures.append(error)

        count = min(PARTS_AT_ONCE_MAX, sum(1 for etag in etags if not etag))
        senders = [asyncio.ensure_future(send_some()) for _ in range(count)]
        try:
            # Parts in flight are waited for: they have arrived when the next try asks what has.
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
        if failures:
            raise failures[0]
        return etags

    async def _put(self, url: str, part: FilePart, progress: Progress, index: int) -> str:
        in_flight = progress.in_flight
        in_flight[index] = 0

        def told(sent_bytes: int) -> None:
            if index in in_flight:
                in_flight[index] = sent_bytes

        try:
            etag = await self._transport.put_part(url, dataclasses.replace(part, told=told))
        finally:
            del in_flight[index]
        progress.bytes_there += part.size_bytes
        progress.parts_sent += 1
        return etag

    async def _try(self, job: _Job) -> FileDigest:
        try:
            return await self._try_once(job)
        except Error as error:
            if error.reason not in _CHANGED:
                raise
            job.digest = None
            job.change_count += 1
            if job.change_count > CHANGE_COUNT_MAX:
                raise InvalidArgument(
                    f"{job.path} changes again and again while it is sent ({job.change_count} times); save a copy that stays",
                    reason=FILE_CHANGED,
                ) from error
            # Sent anew, as it is now.
            raise Unavailable(error.message, reason="STORE_UNAVAILABLE") from error

    async def _try_once(self, job: _Job) -> FileDigest:
        stamp = self._disk.stamp(job.path)
        if stamp is None:
            raise InvalidArgument(f"there is no file {job.path} any more", reason="FILE_NOT_FOUND")
        if job.digest is None or job.stamp != stamp:
            job.stamp = stamp
            async with self._digests:
                job.digest = await self._disk.digest(
                    job.path, size_bytes=stamp[0], part_bytes=part_bytes_of(stamp[0])
                )
        job.progress.bytes_total = job.digest.size_bytes
        plan = await self._announce(job)
        digest, progress = job.digest, job.progress
        if not plan.is_present:
            etags = await self.send_parts(job.path, digest, plan, progress)
            await _complete(job.destination, plan.upload_id, etags)
        progress.bytes_there, progress.in_flight = digest.size_bytes, {}
        return digest

    async def _announce(self, job: _Job) -> UploadPlan:
        """Returns the plan, after cutting the file as the server does: one of before takes no wish."""
        assert job.digest is not None
        try:
            plan = await job.destination.announce(job.digest)
        except InvalidArgument as error:
            if error.reason != "COLUMN_LENGTH_MISMATCH" or not job.digest.part_md5s:
                raise
            plan = await job.destination.announce(dataclasses.replace(job.digest, part_md5s=()))
        if plan.is_present or len(plan.part_urls) == len(job.digest.part_md5s):
            return plan
        job.digest = await self._disk.digest(
            job.path, size_bytes=job.digest.size_bytes, part_bytes=plan.part_bytes
        )
        return await job.destination.announce(job.digest) if job.digest.part_md5s else plan


def is_store_silent(error: Error) -> bool:
    """Returns whether only time can help: the store, or something else that the server needs, does not answer."""
    is_refused = error.reason == STORE_REFUSED or isinstance(error, NotOffered)
    return is_repeatable(error) and not is_refused


def part_bytes_of(size_bytes: int) -> int:
    """Returns the size of the parts that a content of that size is cut into."""
    needed_bytes = -(-size_bytes // PART_COUNT_MAX)
    return max(PART_BYTES, -(-needed_bytes // _MIB) * _MIB)


def _part(path: str, digest: FileDigest, plan: UploadPlan, index: int) -> FilePart:
    offset = index * plan.part_bytes
    size_bytes = max(0, min(plan.part_bytes, digest.size_bytes - offset))
    md5 = digest.part_md5s[index] if digest.part_md5s else b""
    return FilePart(path, offset, size_bytes, base64.b64encode(md5).decode() if md5 else "")


async def _complete(destination: Destination, upload_id: str, etags: Sequence[str]) -> None:
    try:
        await destination.complete(upload_id, etags)
    except Error as error:
        if error.reason not in ("FILE_NOT_FOUND", "UPLOAD_NOT_FOUND"):
            raise
        # The server has forgotten the upload: announced anew.
        raise Unavailable(error.message, reason="STORE_UNAVAILABLE") from error
