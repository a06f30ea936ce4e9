"""Sends run folders in the foreground: offline runs, and what an agent left; once, or for as long as it is let."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runyard.agent import mark as marks
from runyard.agent import run as runs
from runyard.agent.agent import AGAIN_INTERVAL_S
from runyard.agent.budget import Budget
from runyard.agent.disk import LocalDisk
from runyard.agent.main import IN_FLIGHT_BYTES_MAX, make_server
from runyard.agent.process_watch import LocalProcesses
from runyard.agent.run import RunUpload
from runyard.agent.sync_job import (
    DAMAGED,
    EMPTY,
    LEFT_TO_AGENT,
    UNREACHABLE,
    Job,
)
from runyard.agent.sync_locks import RootLocks
from runyard.agent.sync_progress import Progress
from runyard.agent.world import Server, World
from runyard.journal_clean import remove_expired
from runyard.journal_status import find_run_folders, read_status
from runyard.text_format import count_text

AT_ONCE_COUNT_MAX = 4
"""Runs of dead processes that are sent at once; with `--watch`, live ones all are."""
UNREACHABLE_GIVE_UP_S = 30.0
"""A server that does not answer for so long, us or the agent that we wait for, ends the command, but for `--watch`."""
AGENT_WAIT_S = 600.0
"""How long an agent, or another sync, that serves the folder already is watched."""
COMPLETE_TOLD_MAX = 10
"""Runs that were complete before are named if there are at most so many, else counted."""
LOOK_INTERVAL_S = 0.2
WATCH_INTERVAL_S = 1.0
"""Pause between two looks for new run folders."""


def sync(
    paths: Sequence[Path],
    *,
    base_url: str,
    api_key: str = "",
    is_json: bool = False,
    is_watching: bool = False,
) -> int:
    """Sends all runs in the given run folders, or in folders of such; returns 0 if the server has all of it.

    Safe to repeat, and to interrupt: what was sent is known by its number and is not sent or counted again. With
    `is_watching` it goes on with what comes until SIGINT or SIGTERM.
    """
    syncing = _Sync(paths, base_url=base_url, api_key=api_key, is_json=is_json)
    try:
        asyncio.run(syncing.watch() if is_watching else syncing.send_once())
    except KeyboardInterrupt:
        syncing.progress.say("interrupted; nothing is lost, `runyard sync` goes on from here")
        return 130
    return syncing.exit_code()


class _Sync:
    """One run of the command."""

    def __init__(
        self, paths: Sequence[Path], *, base_url: str, api_key: str, is_json: bool
    ) -> None:
        self.jobs: dict[Path, Job] = {}
        self.progress = Progress(self.jobs, is_quiet=is_json)
        self._paths = list(paths)
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._is_json = is_json
        self._is_watching = False
        self._disk = LocalDisk()
        self._world = World(self._disk, Budget(IN_FLIGHT_BYTES_MAX), time.time_ns)
        self._locks: dict[Path, RootLocks] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._leftover_count = 0
        self._away_since_s: dict[Path, float] = {}
        """By folder of runs: since when its agent has been seen to tell that the server does not answer it."""

    def exit_code(self) -> int:
        """Returns 0 if the server has all that there is."""
        return 0 if all(job.is_done for job in self.jobs.values()) else 1

    async def send_once(self) -> None:
        """Sends what is there."""
        self._find()
        if not self.jobs:
            self.progress.say("no runs found")
        slots = asyncio.Semaphore(AT_ONCE_COUNT_MAX)

        async def send(job: Job, server: Server) -> None:
            async with slots:
                if not job.outcome:
                    await self._send(job, server)
            self._tell(job)

        async def send_all(server: Server) -> None:
            self.progress.total_is_known = True
            await asyncio.gather(*(send(job, server) for job in self.jobs.values()))

        quiet_count = self._pass_over_complete()
        await self._with_server(send_all)
        if quiet_count:
            self.progress.say(f"{count_text(quiet_count, 'run')} had been synced before")
        if self._is_json:
            fields = [job.fields() for job in self.jobs.values()]
            sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")

    def _pass_over_complete(self) -> int:
        """Marks runs that were complete before as told, where they are many and there is nothing to say; returns how many."""
        complete = [job for job in self.jobs.values() if job.was_complete and not job.message]
        if len(complete) <= COMPLETE_TOLD_MAX:
            return 0
        for job in complete:
            job.is_told = True
        return len(complete)

    async def watch(self) -> None:
        """Sends what is there and what comes, until a signal asks it to end."""
        self._is_watching = True
        self._world = dataclasses.replace(self._world, processes=LocalProcesses())
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows: there Ctrl-C is a KeyboardInterrupt
            pass
        shown = ", ".join(str(path) for path in self._paths)
        self.progress.say(f"watching {shown}; Ctrl-C ends it")

        async def look_until_stopped(server: Server) -> None:
            while not stopped.is_set():
                self._find()
                self._begin(server)
                self.progress.show()
                try:
                    await asyncio.wait_for(stopped.wait(), WATCH_INTERVAL_S)
                except asyncio.TimeoutError:
                    continue

        await self._with_server(look_until_stopped)
        for job in self.jobs.values():
            if not job.outcome and job.refresh(self._disk):
                self._tell(job)
        durable = sum(job.records_durable for job in self.jobs.values())
        unsent = [job for job in self.jobs.values() if not job.is_done]
        rest = f"; {count_text(len(unsent), 'run')} not done" if unsent else ""
        self.progress.say(
            f"stopped: {count_text(len(self.jobs), 'run')}, {durable:,} records durable{rest}"
        )

    async def _with_server(self, work: Any) -> None:
        server = make_server(self._base_url, api_key=self._api_key)
        server.reach.listen(lambda: self.progress.tell_reach(server.reach))
        loop = asyncio.get_running_loop()
        beating = loop.create_task(server.heart.run())
        drawing = loop.create_task(self.progress.run())
        try:
            await work(server)
        finally:
            tasks = [beating, drawing, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.progress.clear()
            await server.transport.close()
            for locks in self._locks.values():
                locks.release()
            for root in {folder.parent for folder in self.jobs}:
                remove_expired(root)

    def _find(self) -> None:
        """Makes a job of each folder that is new."""
        for folder in find_run_folders(self._paths):
            if folder not in self.jobs:
                self.jobs[folder] = Job.of(self._disk, folder)
        for folder in [f for f in self.jobs if self._is_watching and not f.exists()]:
            if folder not in self._tasks:
                del self.jobs[folder]

    def _begin(self, server: Server) -> None:
        """Starts what may start; used while watching."""
        for folder, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[folder]
                task.result()  # a bug is shown, not swallowed
        for folder, job in self.jobs.items():
            if job.is_told or folder in self._tasks:
                continue
            outcome, is_live = job.refresh(self._disk), self._is_live(job)
            if outcome in (runs.COMPLETE, DAMAGED) and not (outcome == DAMAGED and is_live):
                self._tell(job)
                continue
            if job.start is None:  # nothing is in it yet
                continue
            if not is_live and self._leftover_count >= AT_ONCE_COUNT_MAX:
                continue
            if not job.is_offline and is_live:
                continue  # its agent's
            if not self._locks_of(job).take(needs_agent=not job.is_offline):
                continue
            job.outcome = ""
            self._leftover_count += not is_live
            serving = self._serve(job, server, is_leftover=not is_live)
            self._tasks[folder] = asyncio.get_running_loop().create_task(serving)

    async def _serve(self, job: Job, server: Server, *, is_leftover: bool) -> None:
        """Carries one run to its end, whose locks were taken."""
        try:
            await self._upload(job, server)
        finally:
            self._leftover_count -= is_leftover
            self._locks_of(job).give(needs_agent=not job.is_offline)
        self._tell(job)
        if job.outcome == runs.WAITING:
            asyncio.get_running_loop().call_later(AGAIN_INTERVAL_S, job.try_again)

    async def _send(self, job: Job, server: Server) -> None:
        """Sends one folder, unless somebody is at it: then waits for that one, and goes on where it ended."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + AGENT_WAIT_S
        needs_agent = not job.is_offline
        locks = self._locks_of(job)
        while not job.outcome:
            if locks.take(needs_agent=needs_agent):
                try:
                    await self._upload(job, server)
                finally:
                    locks.give(needs_agent=needs_agent)
                return
            if job.refresh(self._disk):
                return
            mark = job.mark
            if mark.get("server") == marks.REFUSED:
                job.end(runs.REFUSED, str(mark.get("message") or ""))
            elif self._is_away_for_good(job, loop.time()):
                job.end(LEFT_TO_AGENT, str(mark.get("message") or ""))
            elif (needs_agent and self._is_live(job)) or loop.time() >= end_s:
                job.end(LEFT_TO_AGENT, "")
            else:
                await asyncio.sleep(LOOK_INTERVAL_S)

    def _is_away_for_good(self, job: Job, now_s: float) -> bool:
        """Returns whether the agent of a folder goes on telling that the server does not answer it.

        What it told last may be old: it asks again every few seconds, so it is given the time to find the server back.
        """
        root = job.folder.parent
        if job.mark.get("server") != marks.UNREACHABLE:
            self._away_since_s.pop(root, None)
            return False
        return now_s - self._away_since_s.setdefault(root, now_s) > UNREACHABLE_GIVE_UP_S

    async def _upload(self, job: Job, server: Server) -> None:
        assert job.start is not None
        upload = RunUpload(
            str(job.folder),
            job.start,
            world=self._world,
            server=server,
            is_foreground=not self._is_watching,
        )
        upload.is_writer_alive = self._is_live(job)
        running = asyncio.get_running_loop().create_task(upload.run())
        try:
            while not running.done():
                await asyncio.wait([running], timeout=LOOK_INTERVAL_S)
                job.take(upload)
                if not self._is_watching and server.reach.unreachable_s > UNREACHABLE_GIVE_UP_S:
                    job.end(UNREACHABLE, "")
                    return
        finally:
            if not running.done():
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            job.take(upload)
            if job.outcome == UNREACHABLE:  # its records may not even have been looked at
                job.records_written = read_status(job.folder).records_written
        outcome = running.result()
        is_telling = outcome in (runs.COMPLETE, runs.REFUSED, runs.BLOCKED, runs.WAITING)
        job.end(outcome, upload.mark.message if is_telling else "")
        job.read_answer(self._disk)

    def _tell(self, job: Job) -> None:
        """Says what became of a run, once; of one that was complete before, not while watching."""
        if job.is_told:
            return
        job.is_told = True
        if self._is_watching and (job.was_complete or job.outcome == EMPTY):
            return
        self.progress.say(f"{job.folder.name}: {job.said()}")
        if self._is_watching and self._is_json:
            sys.stdout.write(json.dumps(job.fields(), ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def _is_live(self, job: Job) -> bool:
        return self._disk.is_locked(f"{job.folder}/writer.lock")

    def _locks_of(self, job: Job) -> RootLocks:
        root = job.folder.parent
        if root not in self._locks:
            self._locks[root] = RootLocks(root, warn=self.progress.say)
        return self._locks[root]
