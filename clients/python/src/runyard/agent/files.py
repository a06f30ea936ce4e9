"""Uploads the files of one run: at once, when they change, or at its end, as each FILE record says."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

from runyard.agent.columns import Event
from runyard.agent.content_upload import ContentUploads, Progress, is_store_silent
from runyard.agent.gathered import Gathered
from runyard.agent.mark import Mark, read_json
from runyard.agent.ports import Disk, FileDigest, Transport, UploadPlan
from runyard.agent.retry import Repeater
from runyard.agent.small_files import BATCH_BYTES_MAX, BATCH_COUNT_MAX, SmallFile, SmallFiles
from runyard.agent.store_calls import SMALL_BYTES
from runyard.errors import Error

NOW, END, LIVE = "now", "end", "live"
PENDING, DURABLE, FAILED = "pending", "durable", "failed"
LOOK_INTERVAL_S = 2.0
"""Pause between two looks at live files; one that changed is sent when two looks found it equal."""
LARGE_AT_ONCE_MAX = 4
SMALL_AT_ONCE_MAX = 64
"""Files of one run that are on their way at once; what small ones need most is answers of the server, which they share."""
CALL_COUNT_MAX = 100
"""Files that one call to the server speaks of."""
END_COUNT_MAX = 2
"""Uploads of one file after the end of its run: one that somebody goes on writing must not keep the run open."""
BATCH_COUNT_MIN = 3
"""Fewer small files are sent one by one."""
SAVE_INTERVAL_S, SAVE_INTERVAL_PER_FILE_S, SAVE_INTERVAL_S_MAX = 0.2, 0.0002, 5.0
"""How long files.json lags behind what has become of files, at the least, per file of the run, and at the most; what is lost
with that is asked of the server."""
PROGRESS_INTERVAL_S = 0.25

_log = logging.getLogger("runyard.agent")


@dataclasses.dataclass
class _Entry:
    """A file as the last FILE record of its name says, and how far it is."""

    path: str
    policy: str
    state: str = PENDING
    sent_stamp: tuple[int, int] | None = None
    seen_stamp: tuple[int, int] | None = None
    size_bytes: int = 0
    is_waiting: bool = False
    """Whether an object store that does not answer keeps it from being sent."""
    is_left: bool = False
    """Whether this agent waits for that no longer."""
    end_count: int = 0
    """Uploads begun since the end of the run."""
    is_copy: bool = False
    """Whether the SDK made the file for the upload; then it is removed when the run is complete."""


class FileUploads:
    """Keeps the list of a run's files in files.json, so that a later agent goes on where this one ended."""

    def __init__(
        self,
        transport: Transport,
        contents: ContentUploads,
        disk: Disk,
        mark: Mark,
        *,
        repeater: Repeater,
        folder: str,
        run_path: str,
        store_wait_s: float,
    ) -> None:
        self._store_wait_s = store_wait_s
        self._calls = UploadCalls(transport, run_path)
        self._contents = contents
        self._disk = disk
        self._mark = mark
        self._path = f"{folder}/files.json"
        self._end_time_s: float | None = None
        self._progress: dict[str, Progress] = {}
        """Of the files that are on their way, by name."""
        self._senders: dict[bytes, asyncio.Event] = {}
        """What is sent right now, by its SHA-256; the event tells of its end."""
        self._small = SmallFiles(
            transport, repeater, disk, run_path=run_path, senders=self._senders
        )
        self._save_timer: asyncio.TimerHandle | None = None
        self._large_slots = asyncio.Semaphore(LARGE_AT_ONCE_MAX)
        self._small_slots = asyncio.Semaphore(SMALL_AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._entries = _load(read_json(disk, self._path))
        self._look_time_s = 0.0
        self._unsaved_sequence = 0
        """The first record since the files were written down; 0 if there is none."""

    def record(self, events: Iterable[Event]) -> None:
        """Takes FILE records; when this returns they are on disk, or hold the mark."""
        changed = False
        for event in events:
            content = json.loads(event.payload)
            name, path = str(content.get("name") or ""), str(content.get("path") or "")
            if name and path:
                policy = str(content.get("policy") or NOW)
                is_copy = bool(content.get("is_copy"))
                size_bytes = int(content.get("size_bytes") or 0)
                self._entries[name] = _Entry(path, policy, is_copy=is_copy, size_bytes=size_bytes)
                self._unsaved_sequence = self._unsaved_sequence or event.sequence
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
        small: list[str] = []
        for name, entry in self._entries.items():
            # One at a time of a name: an older content must not arrive after a newer one.
            if name not in self._progress and self._is_due(entry, is_time=is_time):
                self._progress[name] = Progress(bytes_total=entry.size_bytes)
                entry.end_count += self._is_ending
                if entry.size_bytes <= SMALL_BYTES:
                    small.append(name)
                else:
                    self._begin(self._upload(name, entry))
        if len(small) < BATCH_COUNT_MIN:
            for name in small:
                self._begin(self._upload(name, self._entries[name]))
        else:
            for batch in self._batches(small):
                self._begin(self._upload_batch(batch))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _batches(self, names: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        size_bytes = 0
        for name in names:
            size_bytes += self._entries[name].size_bytes
            if batch and (len(batch) >= BATCH_COUNT_MAX or size_bytes > BATCH_BYTES_MAX):
                yield batch
                batch, size_bytes = [], self._entries[name].size_bytes
            batch.append(name)
        yield batch

    @property
    def is_waiting(self) -> bool:
        """Returns whether files are left for a later agent: only a store that does not answer keeps them from being sent."""
        return any(entry.state == PENDING for entry in self._entries.values())

    async def finish(self) -> None:
        """Returns when each file is durable, has failed and was told, or is left for a later agent."""
        self._end_time_s = asyncio.get_running_loop().time()
        try:
            while True:
                self.look()
                if not self._tasks:
                    return
                self._tell()
                await asyncio.wait(list(self._tasks), timeout=PROGRESS_INTERVAL_S)
        finally:
            self._save()

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
        await self._calls.stop()
        if self._save_timer is not None:
            self._save()

    @property
    def _is_ending(self) -> bool:
        return self._end_time_s is not None

    def _is_due(self, entry: _Entry, *, is_time: bool) -> bool:
        if self._is_ending:
            is_changed = entry.policy == LIVE and self._stamp(entry.path) != entry.sent_stamp
            is_due = entry.state == PENDING or (entry.state == DURABLE and is_changed)
            return is_due and not entry.is_left and entry.end_count < END_COUNT_MAX
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

    async def _upload_batch(self, names: Sequence[str]) -> None:
        """Sends small files together; those that do not go so, one by one."""
        entries = {name: self._entries[name] for name in names}
        files = [
            SmallFile(name, entry.path, self._progress[name]) for name, entry in entries.items()
        ]
        await self._small.send(files)
        for file in files:
            entry = entries[file.name]
            if not file.is_durable or file.digest is None:
                self._begin(self._upload(file.name, entry))
                continue
            del self._progress[file.name]
            entry.size_bytes = file.digest.size_bytes
            entry.state, entry.sent_stamp, entry.is_waiting = DURABLE, file.stamp, False
        self._note_progress()
        self._save_soon()

    def _note_progress(self) -> None:
        if not any(entry.is_waiting for entry in self._entries.values()):
            self._mark.go_on()

    async def _upload(self, name: str, entry: _Entry) -> None:
        """Sends one file; whatever the outcome, it is noted and nothing is raised."""
        stamp, problem = None, ""
        destination = RunFile(self._calls, name, self._senders)
        slots = self._small_slots if entry.size_bytes <= SMALL_BYTES else self._large_slots
        try:
            async with slots:
                stamp = self._stamp(entry.path)
                digest = await self._contents.send(
                    entry.path,
                    destination,
                    progress=self._progress[name],
                    keeps_on=functools.partial(self._keeps_on, entry),
                )
            entry.size_bytes = digest.size_bytes
        except OSError as error:
            problem = error.strerror or str(error)
        except Error as error:
            problem, entry.is_waiting = error.message, is_store_silent(error)
        else:
            entry.is_waiting = False
        finally:
            destination.leave()
            del self._progress[name]
        if problem and entry.is_waiting:
            entry.state, entry.is_left = PENDING, self._is_ending
            self._mark.wait(problem)
            _log.warning("file_waits %s (%s): %s", name, entry.path, problem)
        elif problem:
            entry.state = FAILED
            self._mark.message = f"file {name} was not uploaded: {problem}"
            _log.error("file_failed %s (%s): %s", name, entry.path, problem)
        else:
            entry.state, entry.sent_stamp = DURABLE, stamp
            self._note_progress()
        self._save_soon()

    def _save_soon(self) -> None:
        """Not at once: files.json is as long as the run's list of files, and of 10,000 it would be written 10,000 times."""
        if self._save_timer is None:
            pause_s = max(SAVE_INTERVAL_S, len(self._entries) * SAVE_INTERVAL_PER_FILE_S)
            loop = asyncio.get_running_loop()
            self._save_timer = loop.call_later(min(SAVE_INTERVAL_S_MAX, pause_s), self._save)

    def _keeps_on(self, entry: _Entry, error: Error) -> bool:
        """Returns whether to go on trying where nothing gets across: while the run lives, and a while after."""
        if not is_store_silent(error):
            return False
        entry.is_waiting = True
        self._mark.wait(error.message)
        if self._end_time_s is None:
            return True
        return asyncio.get_running_loop().time() - self._end_time_s < self._store_wait_s

    def _tell(self) -> None:
        """Has the mark say how far the files are."""
        entries, mark = self._entries, self._mark
        mark.files_durable = sum(1 for entry in entries.values() if entry.sent_stamp is not None)
        mark.files_failed = sum(1 for entry in entries.values() if entry.state == FAILED)
        mark.files_waiting = sum(1 for entry in entries.values() if entry.is_waiting)
        mark.files_total = len(entries)
        mark.files_settled = sum(
            1
            for name, entry in entries.items()
            if entry.state != PENDING and name not in self._progress
        )
        done_bytes = total_bytes = 0
        for name, entry in entries.items():
            progress = self._progress.get(name)
            if progress is not None:
                total_bytes += progress.bytes_total
                done_bytes += progress.bytes_done
            elif entry.state != FAILED:
                total_bytes += entry.size_bytes
                done_bytes += entry.size_bytes if entry.state == DURABLE else 0
        mark.file_bytes_total, mark.file_bytes_done = total_bytes, done_bytes
        mark.touch()

    def _save(self) -> None:
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_timer = None
        self._tell()
        fields = {
            "version": 1,
            "files": {
                name: {
                    "path": entry.path,
                    "policy": entry.policy,
                    "state": entry.state,
                    "sent_stamp": entry.sent_stamp,
                    "is_copy": entry.is_copy,
                    "size_bytes": entry.size_bytes,
                }
                for name, entry in self._entries.items()
            },
        }
        content = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
        try:
            self._disk.replace(self._path, content, is_synced=False)
        except OSError as error:
            _log.error("files_not_written %s: %s; make room there", self._path, error)
            if self._unsaved_sequence:
                self._mark.hold("files", self._unsaved_sequence)
        else:
            self._unsaved_sequence = 0
            self._mark.release("files")


class UploadCalls:
    """Announces and completes files of one run; those of small files share calls."""

    def __init__(self, transport: Transport, run_path: str) -> None:
        self._transport = transport
        self._run_path = run_path
        self._announcing: Gathered[tuple[str, FileDigest], UploadPlan] = Gathered(
            lambda asks: transport.create_uploads(run_path, asks), count_max=CALL_COUNT_MAX
        )
        self._completing: Gathered[tuple[str, Sequence[str]], None] = Gathered(
            transport.complete_uploads, count_max=CALL_COUNT_MAX
        )

    async def announce(self, name: str, digest: FileDigest) -> UploadPlan:
        """Announces a file; the addresses of one with many parts fill an answer by themselves."""
        if len(digest.part_md5s) == 1:
            return await self._announcing.ask((name, digest))
        [answer] = await self._transport.create_uploads(self._run_path, [(name, digest)])
        if isinstance(answer, Error):
            raise answer
        return answer

    async def complete(self, upload_id: str, part_etags: Sequence[str]) -> None:
        """Makes a file visible."""
        await self._completing.ask((upload_id, part_etags))

    async def stop(self) -> None:
        """Ends what is under way."""
        await self._announcing.stop()
        await self._completing.stop()


class RunFile:
    """A name of a run as the destination of a content."""

    def __init__(self, calls: UploadCalls, name: str, senders: dict[bytes, asyncio.Event]) -> None:
        self._calls = calls
        self._name = name
        self._senders = senders
        self._sha256 = b""

    async def announce(self, digest: FileDigest) -> UploadPlan:
        """Announces the file; waits while the same bytes are sent under another name: then they need not be sent again."""
        if digest.sha256 != self._sha256:
            self.leave()
            while (sender := self._senders.get(digest.sha256)) is not None:
                await sender.wait()
            self._sha256 = digest.sha256
            self._senders[digest.sha256] = asyncio.Event()
        return await self._calls.announce(self._name, digest)

    async def complete(self, upload_id: str, part_etags: Sequence[str]) -> None:
        """Makes the file visible."""
        await self._calls.complete(upload_id, part_etags)

    def leave(self) -> None:
        """Lets others send these bytes."""
        sender = self._senders.pop(self._sha256, None)
        self._sha256 = b""
        if sender is not None:
            sender.set()


def _load(fields: dict[str, Any] | None) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for name, known in ((fields or {}).get("files") or {}).items():
        stamp: Sequence[int] = known.get("sent_stamp") or ()
        sent_stamp = (int(stamp[0]), int(stamp[1])) if len(stamp) == 2 else None
        state = known.get("state") or PENDING
        entries[name] = _Entry(
            known["path"],
            known["policy"],
            state,
            sent_stamp,
            is_copy=bool(known.get("is_copy")),
            size_bytes=int(known.get("size_bytes") or 0),
        )
    return entries
