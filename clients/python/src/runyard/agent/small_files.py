"""Sends small files of one run in batches: hashed, announced, sent and completed together, several batches at a time."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Sequence

from runyard.agent.content_upload import TRY_COUNT_MAX, Progress
from runyard.agent.ports import Disk, FileDigest, FilePart, Transport, UploadPlan
from runyard.agent.retry import Repeater
from runyard.agent.store_calls import SMALL_BYTES
from runyard.errors import Error

BATCH_COUNT_MAX = 250
"""Files of one batch; the server takes up to 1,000 in one call."""
BATCH_BYTES_MAX = 16 << 20
BATCHES_AT_ONCE_MAX = 3
"""One is hashed and announced and one completed while one is sent."""


@dataclasses.dataclass
class SmallFile:
    """A file on its way."""

    name: str
    path: str
    progress: Progress
    stamp: tuple[int, int] | None = None
    """Of the file before it was read for `digest`."""
    digest: FileDigest | None = None
    is_durable: bool = False


class SmallFiles:
    """Sends batches of small files.

    It knows the way that most files go. Whatever does not go that way (a file that changed, one that the server refuses, a
    store that does not answer) is left as it is, and its caller sends it by itself.
    """

    def __init__(
        self,
        transport: Transport,
        repeater: Repeater,
        disk: Disk,
        *,
        run_path: str,
        senders: dict[bytes, asyncio.Event],
    ) -> None:
        self._transport = transport
        self._repeater = repeater
        self._disk = disk
        self._run_path = run_path
        self._senders = senders
        """What is sent right now, by its SHA-256; shared with those who send files by themselves."""
        self._slots = asyncio.Semaphore(BATCHES_AT_ONCE_MAX)
        self._hashing = asyncio.Lock()
        self._putting = asyncio.Lock()

    async def send(self, files: Sequence[SmallFile]) -> None:
        """Marks those as durable that became visible on the server. Raises nothing but CancelledError."""
        async with self._slots:
            await self._hash(files)
            hashed = [file for file in files if file.digest is not None]
            mine = self._begin(hashed)
            try:
                await self._send(list(mine.values()))
            finally:
                for sha256 in mine:
                    self._senders.pop(sha256).set()
            # The same bytes under other names: the server has them by now, and need only be told.
            await self._send([file for file in hashed if not file.is_durable], is_told_only=True)

    async def _hash(self, files: Sequence[SmallFile]) -> None:
        async with self._hashing:
            found = await self._disk.digest_all(
                [file.path for file in files], size_bytes_max=SMALL_BYTES
            )
        for file, one in zip(files, found):
            if one is not None and len(one[1].part_md5s) <= 1:
                file.stamp, file.digest = one
                file.progress.bytes_total = one[1].size_bytes

    def _begin(self, files: Sequence[SmallFile]) -> dict[bytes, SmallFile]:
        """Returns one file of each content that nobody else sends right now, and makes known that they are sent."""
        mine: dict[bytes, SmallFile] = {}
        for file in files:
            assert file.digest is not None
            sha256 = file.digest.sha256
            if sha256 not in self._senders:
                self._senders[sha256] = asyncio.Event()
                mine[sha256] = file
        return mine

    async def _send(self, files: Sequence[SmallFile], *, is_told_only: bool = False) -> None:
        if not files:
            return
        asks = [(file.name, file.digest) for file in files if file.digest is not None]
        try:
            plans = await self._repeater.call(
                lambda: self._transport.create_uploads(self._run_path, asks),
                repeat_count_max=TRY_COUNT_MAX,
            )
            lacked: list[tuple[SmallFile, UploadPlan]] = []
            for file, plan in zip(files, plans):
                if not isinstance(plan, Error) and plan.is_present:
                    _note(file)
                elif not isinstance(plan, Error) and len(plan.part_urls) == 1:
                    lacked.append((file, plan))
            if lacked and not is_told_only:
                await self._put(lacked)
        except Error:
            return  # those that are left are sent one by one, and it is told what is in their way

    async def _put(self, lacked: Sequence[tuple[SmallFile, UploadPlan]]) -> None:
        jobs = [(plan.part_urls[0], small_part(file.path, file.digest)) for file, plan in lacked]
        async with self._putting:
            etags = await self._transport.put_parts(jobs)
        arrivals: list[tuple[str, Sequence[str]]] = []
        arrived: list[SmallFile] = []
        for (file, plan), etag in zip(lacked, etags):
            if isinstance(etag, str):
                file.progress.bytes_there = file.progress.bytes_total
                file.progress.parts_sent += 1
                arrivals.append((plan.upload_id, (etag,)))
                arrived.append(file)
        if not arrivals:
            return
        answers = await self._repeater.call(
            lambda: self._transport.complete_uploads(arrivals), repeat_count_max=TRY_COUNT_MAX
        )
        for file, answer in zip(arrived, answers):
            if not isinstance(answer, Error):
                _note(file)


def small_part(path: str, digest: FileDigest | None) -> FilePart:
    """Returns the one part of a small file."""
    assert digest is not None
    md5 = digest.part_md5s[0] if digest.part_md5s else b""
    return FilePart(path, 0, digest.size_bytes, base64.b64encode(md5).decode() if md5 else "")


def _note(file: SmallFile) -> None:
    file.is_durable = True
    file.progress.bytes_there = file.progress.bytes_total
