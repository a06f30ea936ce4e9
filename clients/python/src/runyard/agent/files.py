"""Uploads the files of one run: at once, when they change, or at its end, as each FILE record says."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from runyard.agent.columns import Event
from runyard.agent.mark import Mark, read_json
from runyard.agent.ports import Disk, FileDigest, FilePart, Transport, UploadPlan
from runyard.agent.retry import Repeater
from runyard.errors import Error, InvalidArgument, Unavailable

NOW, END, LIVE = "now", "end", "live"
PENDING, DURABLE, FAILED = "pending", "durable", "failed"
LOOK_INTERVAL_S = 2.0
"""Pause between two looks at live files; one that changed is sent when two looks found it equal."""
AT_ONCE_COUNT_MAX = 4
"""Files of one run that are sent at once."""
END_COUNT_MAX = 2
"""Uploads of one file after the end of its run: one that somebody goes on writing must not keep the run open."""
TRY_COUNT_MAX = 8
"""How often an upload is tried while the server answers; one that does not answer is waited for."""
SINGLE_PART_BYTES = 64 << 20
"""Up to this size a file is taken to be one part, so that it is read once only before it is sent."""
PART_BYTES_UNKNOWN = 1 << 62

_log = logging.getLogger("runyard.agent")


@dataclasses.dataclass
class _Entry:
    """A file as the last FILE record of its name says, and how far it is."""

    path: str
    policy: str
    state: str = PENDING
    sent_stamp: tuple[int, int] | None = None
    seen_stamp: tuple[int, int] | None = None
    is_busy: bool = False
    end_count: int = 0
    """Uploads begun since the end of the run."""
    is_copy: bool = False
    """Whether the SDK made the file for the upload; then it is removed when the run is complete."""


class FileUploads:
    """Keeps the list of a run's files in files.json, so that a later agent goes on where this one ended."""

    def __init__(
        self,
        transport: Transport,
        repeater: Repeater,
        disk: Disk,
        mark: Mark,
        *,
        folder: str,
        run_path: str,
    ) -> None:
        self._transport = transport
        self._repeater = repeater
        self._disk = disk
        self._mark = mark
        self._path = f"{folder}/files.json"
        self._run_path = run_path
        self._is_ending = False
        self._slots = asyncio.Semaphore(AT_ONCE_COUNT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._entries = _load(read_json(disk, self._path))
        self._look_time_s = 0.0

    def record(self, events: Iterable[Event]) -> None:
        """Takes FILE records; when this returns they are on disk and the mark may pass them."""
        changed = False
        for event in events:
            content = json.loads(event.payload)
            name, path = str(content.get("name") or ""), str(content.get("path") or "")
            if name and path:
                policy = str(content.get("policy") or NOW)
                is_copy = bool(content.get("is_copy"))
                self._entries[name] = _Entry(path, policy, is_copy=is_copy)
                changed = True
        if changed:
            self._save()
            self.look()

    def look(self) -> None:
        """Starts uploads that are due. Cheap; called at each round."""
        if not self._entries:
            return
        loop = asyncio.get_running_loop()
        is_time = loop.time() >= self._look_time_s
        if is_time:
            self._look_time_s = loop.time() + LOOK_INTERVAL_S
        for name, entry in self._entries.items():
            if not entry.is_busy and self._is_due(entry, is_time=is_time):
                entry.is_busy = True
                entry.end_count += self._is_ending
                task = loop.create_task(self._upload(name, entry))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Returns when each file is durable, or has failed and was told."""
        self._is_ending = True
        while True:
            self.look()
            if not self._tasks:
                return
            await asyncio.wait(list(self._tasks))

    def remove_copies(self) -> None:
        """Removes the copies that were made for the upload and are durable; the script's own files stay."""
        for entry in self._entries.values():
            if entry.is_copy and entry.state == DURABLE:
                try:
                    self._disk.remove(entry.path)
                except OSError as error:
                    _log.warning("copy_not_removed %s: %s", entry.path, error)

    async def stop(self) -> None:
        """Ends what is in flight; a later agent repeats it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_due(self, entry: _Entry, *, is_time: bool) -> bool:
        if self._is_ending:
            is_changed = entry.policy == LIVE and self._stamp(entry.path) != entry.sent_stamp
            is_due = entry.state == PENDING or (entry.state == DURABLE and is_changed)
            return is_due and entry.end_count < END_COUNT_MAX
        if entry.policy == NOW:
            return entry.state == PENDING
        if entry.policy != LIVE or not is_time:
            return False
        stamp, before = self._stamp(entry.path), entry.seen_stamp
        entry.seen_stamp = stamp
        is_quiet = stamp == before or entry.sent_stamp is None
        return stamp is not None and is_quiet and stamp != entry.sent_stamp

    def _stamp(self, path: str) -> tuple[int, int] | None:
        try:
            return self._disk.stamp(path)
        except OSError:
            return None

    async def _upload(self, name: str, entry: _Entry) -> None:
        """Sends one file; whatever the outcome, it is noted and nothing is raised."""
        async with self._slots:
            stamp = self._stamp(entry.path)
            problem = ""
            try:
                await self._repeater.call(
                    lambda: self._send(name, entry.path), repeat_count_max=TRY_COUNT_MAX
                )
            except OSError as error:
                problem = error.strerror or str(error)
            except Error as error:
                problem = error.message
        entry.is_busy = False
        if problem:
            entry.state = FAILED
            self._mark.message = f"file {name} was not uploaded: {problem}"
            _log.error("file_failed %s (%s): %s", name, entry.path, problem)
        else:
            entry.state, entry.sent_stamp = DURABLE, stamp
        self._save()

    async def _send(self, name: str, path: str) -> None:
        plan, digest = await self._announce(name, path)
        if plan.is_present:
            return
        etags = []
        for index, url in enumerate(plan.part_urls):
            offset = index * plan.part_bytes
            size_bytes = min(plan.part_bytes, digest.size_bytes - offset)
            md5 = digest.part_md5s[index] if digest.part_md5s else b""
            content_md5 = base64.b64encode(md5).decode() if md5 else ""
            part = FilePart(path, offset, max(0, size_bytes), content_md5)
            etags.append(await self._transport.put_part(url, part))
        try:
            await self._transport.complete_upload(plan.upload_id, etags)
        except Error as error:
            if error.reason != "FILE_CONTENT_MISMATCH":
                raise
            # It changed while it was sent: sent anew, as it is now.
            raise Unavailable(error.message, reason="STORE_UNAVAILABLE") from error

    async def _announce(self, name: str, path: str) -> tuple[UploadPlan, FileDigest]:
        """Returns where the file goes. The size of parts is known from the first answer only; MD5s need it."""
        stamp = self._disk.stamp(path)
        if stamp is None:
            raise InvalidArgument(f"there is no file {path} any more", reason="FILE_NOT_FOUND")
        is_single = stamp[0] <= SINGLE_PART_BYTES
        digest = await self._disk.digest(path, PART_BYTES_UNKNOWN)
        asked = digest if is_single else dataclasses.replace(digest, part_md5s=())
        try:
            plan = await self._transport.create_upload(self._run_path, name, asked)
        except InvalidArgument:
            if not asked.part_md5s:
                raise
            asked = dataclasses.replace(digest, part_md5s=())  # the server cuts it otherwise
            plan = await self._transport.create_upload(self._run_path, name, asked)
        if plan.is_present or len(plan.part_urls) == len(asked.part_md5s):
            return plan, asked
        digest = await self._disk.digest(path, plan.part_bytes)
        if digest.part_md5s:
            plan = await self._transport.create_upload(self._run_path, name, digest)
        return plan, digest

    def _save(self) -> None:
        entries = self._entries.values()
        self._mark.files_durable = sum(1 for entry in entries if entry.sent_stamp is not None)
        self._mark.files_failed = sum(1 for entry in entries if entry.state == FAILED)
        self._mark.touch()
        fields = {
            "version": 1,
            "files": {
                name: {
                    "path": entry.path,
                    "policy": entry.policy,
                    "state": entry.state,
                    "sent_stamp": entry.sent_stamp,
                    "is_copy": entry.is_copy,
                }
                for name, entry in self._entries.items()
            },
        }
        content = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
        try:
            self._disk.replace(self._path, content, is_synced=False)
        except OSError as error:
            _log.error("files_not_written %s: %s; make room there", self._path, error)


def _load(fields: dict[str, Any] | None) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for name, known in ((fields or {}).get("files") or {}).items():
        stamp: Sequence[int] = known.get("sent_stamp") or ()
        sent_stamp = (int(stamp[0]), int(stamp[1])) if len(stamp) == 2 else None
        state = known.get("state") or PENDING
        is_copy = bool(known.get("is_copy"))
        entries[name] = _Entry(known["path"], known["policy"], state, sent_stamp, is_copy=is_copy)
    return entries
