"""Sends the artifacts of one run: entries and contents into a draft, which becomes a version when all of it is there."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runyard.agent.artifact_contents import Content, ContentSender
from runyard.agent.artifact_folder import ArtifactFolder, checked_request
from runyard.agent.artifact_ports import ManifestEntry
from runyard.agent.columns import Event
from runyard.agent.content_upload import TRY_COUNT_MAX, is_store_silent
from runyard.agent.mark import Mark
from runyard.agent.ports import Disk
from runyard.agent.world import Server
from runyard.artifacts.records import VersionRecord
from runyard.errors import Error

AT_ONCE_COUNT_MAX = 2
"""Artifacts of one run that are sent at once; those of one name follow each other, so that their numbers do, too."""
ENTRIES_PER_CALL = 2000
DRAFT_COUNT_MAX = 5
"""How often an artifact is begun anew because the server has forgotten its draft or misses contents."""
UNNOTED_COUNT_MAX = 10
UNNOTED_MESSAGE_MAX = 200
"""Characters of the reason why an artifact failed, of an answer that is in the mark only."""
_BEGIN_ANEW = ("DRAFT_NOT_FOUND", "CONTENT_MISSING", "DRAFT_COMMITTED")

_log = logging.getLogger("runyard.agent")


class ArtifactUploads:
    """Takes ARTIFACT records and sees to it that each becomes a version, or is told to be none.

    Everything is repeatable: a later agent finds the requests without an answer, and the server the drafts by their
    request_id and the contents by their SHA-256.
    """

    def __init__(
        self,
        server: Server,
        disk: Disk,
        mark: Mark,
        *,
        folder: str,
        run_path: str,
        store_wait_s: float,
    ) -> None:
        self._store_wait_s = store_wait_s
        self._transport = server.transport
        self._repeater = server.repeater
        self._mark = mark
        self._run_path = run_path
        self._folder = ArtifactFolder(disk, folder)
        self._sender = ContentSender(server.transport, server.repeater, disk)
        self._end_time_s: float | None = None
        self._slots = asyncio.Semaphore(AT_ONCE_COUNT_MAX)
        self._queues: dict[str, list[dict[str, Any]]] = {}
        """Requests by the name of their artifact, in order; the first is being sent."""
        self._known: set[str] = set()
        self._entries_done: dict[str, int] = {}
        """Entries that are there with their contents, by request."""
        self._entry_count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        mark.artifacts_total = mark.artifacts_durable = mark.artifacts_failed = 0
        mark.artifacts_waiting = 0
        for answer in self._folder.answers():
            self._count(is_failed="error" in answer)
        for request in self._folder.waiting():
            self._begin(request)

    def record(self, events: Iterable[Event]) -> None:
        """Takes ARTIFACT records; when this returns they are on disk, or hold the mark."""
        for event in events:
            request = checked_request(event.payload, event.sequence)
            if request is None:
                _log.error("artifact_passed_over record %d has no request_id", event.sequence)
            elif request["request_id"] not in self._known and not self._folder.is_answered(request):
                if not self._folder.keep_request(request):
                    self._mark.hold(request["request_id"], event.sequence)
                self._begin(request)

    def tell(self) -> None:
        """Has the mark say how far the artifacts are."""
        mark = self._mark
        mark.artifact_entries_done = sum(self._entries_done.values())
        mark.artifact_entries_total = self._entry_count
        mark.artifact_bytes_sent = self._sender.bytes_sent
        for request_id in self._folder.note_again():
            mark.release(request_id)
        mark.artifacts_unnoted = _unnoted(self._folder)
        mark.touch()

    @property
    def is_busy(self) -> bool:
        """Returns whether artifacts are on their way, or what became of them waits for room on the disk."""
        return bool(self._queues or self._folder.unnoted)

    async def finish(self) -> None:
        """Returns when each artifact is a version, is told to be none, or is left for a later agent."""
        self._end_time_s = asyncio.get_running_loop().time()
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    @property
    def is_waiting(self) -> bool:
        """Returns whether artifacts are left for a later agent: only a store that does not answer keeps them from being sent."""
        return self._mark.artifacts_waiting > 0

    async def stop(self) -> None:
        """Ends what is in flight; a later agent repeats it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def remove_copies(self) -> None:
        """Removes what was handed over and is durable, or was never asked for: the run is complete."""
        self._folder.clean_all()

    def _begin(self, request: dict[str, Any]) -> None:
        self._known.add(request["request_id"])
        self._mark.artifacts_total += 1
        self._entry_count += int(request.get("entry_count") or 0)
        name = str(request.get("name") or "")
        queue = self._queues.setdefault(name, [])
        queue.append(request)
        if len(queue) == 1:
            task = asyncio.get_running_loop().create_task(self._work_off(name, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work_off(self, name: str, queue: list[dict[str, Any]]) -> None:
        while queue:
            async with self._slots:
                is_answered = await self._upload(queue[0])
            if not is_answered:
                # Those behind it too: the numbers of versions follow the order in which they were logged.
                self._mark.artifacts_waiting += len(queue)
                self._mark.touch()
                break
            del queue[0]
        del self._queues[name]

    async def _upload(self, request: dict[str, Any]) -> bool:
        """Sends one artifact; whatever the outcome, it is noted and nothing is raised. Returns False if it is left as it is."""
        entry_count = int(request.get("entry_count") or 0)
        try:
            version, is_unchanged = await self._send(request)
        except (Error, OSError) as error:
            told = error.message if isinstance(error, Error) else (error.strerror or str(error))
            if isinstance(error, Error) and is_store_silent(error):
                self._mark.wait(told)
                _log.warning("artifact_waits %s: %s", request.get("name"), told)
                return False
            self._mark.message = f"artifact {request.get('name')} did not become a version: {told}"
            _log.error("artifact_failed %s: %s", request.get("name"), told)
            self._folder.keep_failure(request, error)
            self._settle(request, entry_count)
            self._count(is_failed=True, is_new=False)
        else:
            _log.info(
                "artifact_committed %s%s", version.path, " (unchanged)" if is_unchanged else ""
            )
            if not (self._mark.files_waiting or self._mark.artifacts_waiting):
                self._mark.go_on()
            self._folder.keep_version(request, version, is_unchanged=is_unchanged)
            self._settle(request, entry_count)
            self._count(is_failed=False, is_new=False)
        return True

    def _settle(self, request: Mapping[str, Any], entry_count: int) -> None:
        """Lets go of a request that was answered; where the answer is not noted, the mark has it."""
        request_id = request["request_id"]
        self._entries_done[request_id] = entry_count
        if request_id in self._folder.unnoted:
            self._mark.artifacts_unnoted = _unnoted(self._folder)
        else:
            self._mark.release(request_id)

    async def _send(self, request: Mapping[str, Any]) -> tuple[VersionRecord, bool]:
        for count in itertools.count(1):
            try:
                return await self._send_once(request)
            except Error as error:
                is_anew = error.reason in _BEGIN_ANEW and count < DRAFT_COUNT_MAX
                if not (is_anew or self._keeps_on(error)):
                    raise
                _log.warning("artifact_begun_anew %s: %s", request.get("name"), error.message)
        raise AssertionError("counts without an end")

    async def _send_once(self, request: Mapping[str, Any]) -> tuple[VersionRecord, bool]:
        call, transport = self._repeater.call, self._transport
        draft = await call(
            lambda: transport.create_draft(self._run_path, request),
            repeat_count_max=TRY_COUNT_MAX,
        )
        if draft.version is not None:
            return draft.version, False
        if not draft.is_present:
            await self._fill(draft.draft_id, request)
        return await call(
            lambda: transport.commit_draft(draft.draft_id, request),
            repeat_count_max=TRY_COUNT_MAX,
        )

    async def _fill(self, draft_id: str, request: Mapping[str, Any]) -> None:
        """Adds all entries, and sends what the server lacks of each lot before it reads on: memory stays bounded."""
        request_id = request["request_id"]
        self._entries_done[request_id] = 0
        entries = self._folder.entries(request)
        while lot := list(itertools.islice(entries, ENTRIES_PER_CALL)):
            missing = await self._repeater.call(
                lambda lot=lot: self._transport.add_entries(draft_id, lot),  # type: ignore[misc]  # bound per lot
                repeat_count_max=TRY_COUNT_MAX,
            )
            await self._sender.send(draft_id, _contents(lot, missing))
            self._entries_done[request_id] += len(lot)

    def _keeps_on(self, error: Error) -> bool:
        """Returns whether to go on where only time can help: while the run lives, and a while after."""
        if not is_store_silent(error):
            return False
        self._mark.wait(error.message)
        if self._end_time_s is None:
            return True
        return asyncio.get_running_loop().time() - self._end_time_s < self._store_wait_s

    def _count(self, *, is_failed: bool, is_new: bool = True) -> None:
        mark = self._mark
        mark.artifacts_total += is_new
        mark.artifacts_failed += is_failed
        mark.artifacts_durable += not is_failed
        mark.touch()


def _unnoted(folder: ArtifactFolder) -> dict[str, dict[str, Any]]:
    """Returns the last answers that the disk refused, short enough for a mark that is written over in its own room."""
    found = {}
    for request_id, (_, answer) in list(folder.unnoted.items())[-UNNOTED_COUNT_MAX:]:
        error = answer.get("error")
        if error:
            message = str(error["message"])[:UNNOTED_MESSAGE_MAX]
            found[request_id] = {"name": answer["name"], "error": {**error, "message": message}}
        else:
            found[request_id] = {"path": answer["path"]}
    return found


def _contents(lot: Sequence[ManifestEntry], missing: Sequence[int]) -> list[Content]:
    """Returns the contents to send, each once."""
    found: dict[bytes, Content] = {}
    for index in missing:
        entry = lot[index]
        found.setdefault(
            entry.sha256, Content(entry.sha256, entry.size_bytes, entry.source, entry.path)
        )
    return list(found.values())
