"""Sends run folders once, in the foreground: offline runs, and what an agent left."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runyard import journal_format as form
from runyard.agent import mark as marks
from runyard.agent import run as runs
from runyard.agent.budget import Budget
from runyard.agent.disk import LocalDisk
from runyard.agent.main import IN_FLIGHT_BYTES_MAX, make_server, set_up_log, take_lock
from runyard.agent.mark import read_json
from runyard.agent.run import RunUpload, Server, World
from runyard.agent.start import read_start
from runyard.journal_status import find_run_folders, refused_count

AT_ONCE_COUNT_MAX = 4
PREFIX = "runyard: "
UNREACHABLE_GIVE_UP_S = 30.0
"""A server that does not answer for so long ends the command; what is there stays."""
AGENT_WAIT_S = 600.0
"""How long an agent that serves the folder already is watched."""
PROGRESS_INTERVAL_S = 0.2
LOOKED_AT_BYTES = 64 << 10
"""Bytes of a segment that are looked at where no START was found."""
NO_START, DAMAGED = "no_start", "damaged"
LEFT_TO_AGENT, UNREACHABLE = "left_to_agent", "unreachable"
_SAID = {
    runs.COMPLETE: "synced",
    runs.CURRENT: "synced so far; its process goes on",
    runs.REFUSED: "refused",
    runs.BLOCKED: "needs a newer runyard",
    NO_START: "passed over: no run was begun in it",
    DAMAGED: "damaged: the beginning of its journal cannot be read, so nothing of it can be sent",
    LEFT_TO_AGENT: "its agent is still sending it",
    UNREACHABLE: "the server does not answer; nothing is lost, try again later",
}
_DONE = (runs.COMPLETE, runs.CURRENT, NO_START)


@dataclasses.dataclass
class _Job:
    """One run folder and what became of it."""

    folder: Path
    start: dict[str, Any] | None
    outcome: str = ""
    message: str = ""
    records_durable: int = 0
    records_written: int = 0
    path: str = ""


def sync(paths: Sequence[Path], *, base_url: str, api_key: str = "", is_json: bool = False) -> int:
    """Sends all runs in the given run folders, or in folders of such; returns 0 if the server has all of it.

    Safe to repeat, and to interrupt: what was sent is known by its number and is not sent or counted again.
    """
    disk = LocalDisk()
    jobs = [_job(disk, folder) for folder in find_run_folders(paths)]
    if not jobs:
        _say("no runs found", is_json=is_json)
    try:
        asyncio.run(_send_all(jobs, disk, base_url=base_url, api_key=api_key, is_json=is_json))
    except KeyboardInterrupt:
        _say("interrupted; nothing is lost, `runyard sync` goes on from here", is_json=is_json)
        return 130
    if is_json:
        sys.stdout.write(json.dumps([_fields(job) for job in jobs], ensure_ascii=False) + "\n")
    return 0 if all(job.outcome in _DONE for job in jobs) else 1


def _job(disk: LocalDisk, folder: Path) -> _Job:
    job = _Job(folder, read_start(disk, f"{folder}/journal"))
    mark = read_json(disk, f"{folder}/mark.json") or {}
    answer = read_json(disk, f"{folder}/run.json") or {}
    job.path = str(answer.get("path") or "")
    job.records_durable = _durable(mark)
    job.records_written = int(mark.get("written_sequence") or 0)
    if mark.get("is_complete"):
        job.outcome, job.message = runs.COMPLETE, str(mark.get("message") or "")
    elif job.start is None:
        job.outcome = DAMAGED if _holds_records(folder / "journal") else NO_START
    return job


def _holds_records(journal: Path) -> bool:
    """Returns whether anything was ever written behind the header of a segment."""
    for path in journal.glob("*.seg"):
        try:
            with path.open("rb") as file:
                if any(file.read(LOOKED_AT_BYTES)[form.HEADER_BYTES :]):
                    return True
        except OSError:
            return True
    return False


async def _send_all(
    jobs: Sequence[_Job], disk: LocalDisk, *, base_url: str, api_key: str, is_json: bool
) -> None:
    world = World(disk, Budget(IN_FLIGHT_BYTES_MAX), time.time_ns)
    server = make_server(base_url.rstrip("/"), api_key=api_key)
    beating = asyncio.get_running_loop().create_task(server.heart.run())
    slots = asyncio.Semaphore(AT_ONCE_COUNT_MAX)
    progress = _Progress(jobs, is_shown=not is_json and sys.stderr.isatty())

    async def send(job: _Job, locks: _Locks) -> None:
        async with slots:
            if not job.outcome:
                await _send(job, locks, world, server, progress)
        said = _SAID[job.outcome] + (f": {job.message}" if job.message else "")
        progress.clear()
        _say(f"{job.folder.name}: {said} ({_counts(job)})", is_json=is_json)

    # Once for each root: a second attempt would find the first one's locks taken.
    parents = dict.fromkeys(job.folder.parent for job in jobs if not job.outcome)
    roots = {parent: _Locks(parent) for parent in parents}
    try:
        await asyncio.gather(*(send(job, roots.get(job.folder.parent, _NO_LOCKS)) for job in jobs))
    finally:
        progress.clear()
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await server.transport.close()
        for locks in roots.values():
            locks.release()


class _Locks:
    """Holds the locks of one root: that no agent and no other sync sends the same at the same time."""

    def __init__(self, root: Path | None) -> None:
        self._numbers: list[int] = []
        self.is_agent_free = self._take(root, "agent.lock")
        self.is_sync_free = self._take(root, "sync.lock")
        if root is not None and self._numbers:
            set_up_log(f"{root}/agent.log")

    def release(self) -> None:
        """Lets others have them."""
        for number in self._numbers:
            os.close(number)
        self._numbers.clear()

    def _take(self, root: Path | None, name: str) -> bool:
        number = take_lock(str(root), name) if root is not None else None
        if number is not None:
            self._numbers.append(number)
        return number is not None


_NO_LOCKS = _Locks(None)


class _Progress:
    """One line on a terminal: records sent of all runs together."""

    def __init__(self, jobs: Sequence[_Job], *, is_shown: bool) -> None:
        self._jobs = jobs
        self._is_shown = is_shown
        self._length = 0

    def show(self) -> None:
        """Writes the line anew."""
        if self._is_shown:
            durable = sum(job.records_durable for job in self._jobs)
            written = sum(job.records_written for job in self._jobs)
            line = f"{PREFIX}{durable:,} of {written:,} records durable …"
            sys.stderr.write("\r" + line.ljust(self._length))
            sys.stderr.flush()
            self._length = len(line)

    def clear(self) -> None:
        """Takes the line away."""
        if self._length:
            sys.stderr.write("\r" + " " * self._length + "\r")
            self._length = 0


async def _send(
    job: _Job, locks: _Locks, world: World, server: Server, progress: _Progress
) -> None:
    """Sends one folder, unless somebody is at it: then waits for that one."""
    assert job.start is not None
    is_offline = job.start.get("mode") == "offline"
    if not locks.is_sync_free or not (locks.is_agent_free or is_offline):
        await _watch(job, world, progress)
        return
    upload = RunUpload(str(job.folder), job.start, world=world, server=server, is_foreground=True)
    running = asyncio.get_running_loop().create_task(upload.run())
    try:
        while not running.done():
            await asyncio.wait([running], timeout=PROGRESS_INTERVAL_S)
            job.records_durable = max(0, upload.mark.durable_sequence - upload.mark.records_refused)
            job.records_written = upload.mark.written_sequence
            progress.show()
            if server.reach.unreachable_s > UNREACHABLE_GIVE_UP_S:
                job.outcome, job.message = UNREACHABLE, server.reach.message
                return
    finally:
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    job.outcome = running.result()
    if job.outcome in (runs.COMPLETE, runs.REFUSED, runs.BLOCKED):
        job.message = upload.mark.message  # of a complete one: what damage or a refusal took
    answer = read_json(world.disk, f"{job.folder}/run.json") or {}
    job.path = str(answer.get("path") or "")


async def _watch(job: _Job, world: World, progress: _Progress) -> None:
    """Waits for the agent that serves the folder."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + AGENT_WAIT_S
    while not job.outcome:
        mark = read_json(world.disk, f"{job.folder}/mark.json") or {}
        job.records_durable = _durable(mark)
        job.records_written = int(mark.get("written_sequence") or 0)
        progress.show()
        if mark.get("is_complete"):
            job.outcome, job.message = runs.COMPLETE, str(mark.get("message") or "")
        elif mark.get("server") in (marks.REFUSED, marks.UNREACHABLE):
            is_refused = mark["server"] == marks.REFUSED
            job.outcome = runs.REFUSED if is_refused else LEFT_TO_AGENT
            job.message = str(mark.get("message") or "")
        elif world.disk.is_locked(f"{job.folder}/writer.lock") or loop.time() >= end_s:
            job.outcome = LEFT_TO_AGENT
        else:
            await asyncio.sleep(PROGRESS_INTERVAL_S)


def _durable(mark: Mapping[str, Any]) -> int:
    """Returns how many records a mark calls durable: those up to it that no refusal and no damage took."""
    return max(0, int(mark.get("durable_sequence") or 0) - refused_count(mark))


def _counts(job: _Job) -> str:
    return f"{job.records_durable:,} of {job.records_written:,} records durable"


def _fields(job: _Job) -> dict[str, Any]:
    return {
        "folder": str(job.folder),
        "path": job.path,
        "outcome": job.outcome,
        "message": job.message,
        "records_durable": job.records_durable,
        "records_written": job.records_written,
    }


def _say(text: str, *, is_json: bool) -> None:
    if not is_json:
        sys.stderr.write(f"{PREFIX}{text}\n")
