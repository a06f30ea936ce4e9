"""Carries the journals beside a run's own to the server: what it printed, and what its machine did."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from runyard import journal_format as form
from runyard.agent import mark as marks
from runyard.agent.columns import Piece
from runyard.agent.ports import StartedRun
from runyard.agent.reader import JournalFollower
from runyard.agent.submission import submit_all
from runyard.agent.uploader import Uploader

if TYPE_CHECKING:
    from runyard.agent.world import Server, World

POLL_S = 0.2
KEEPER_WAIT_S = 10.0
"""How long the end of a run waits for a keeper that lives and does not end its journal."""
KEEPER_START_WAIT_S = 1.0
"""How long it waits for one that may just be starting."""
REMOVE_INTERVAL_S = 1.0

_log = logging.getLogger("runyard.agent")


class SideJournals:
    """All of one run; each is followed from when its folder is seen."""

    def __init__(
        self, run: StartedRun, folder: str, *, world: World, server: Server, is_kept: bool
    ) -> None:
        """`is_kept`: segments stay on the disk after the server has them."""
        self._run = run
        self._folder = folder
        self._world = world
        self._server = server
        self._is_kept = is_kept
        self._journals: dict[str, SideJournal] = {}

    def look(self) -> None:
        """Begins with those that are there by now."""
        for name in form.SIDE_JOURNALS:
            folder = f"{self._folder}/{name}"
            if name not in self._journals and self._world.disk.stamp(folder) is not None:
                self._journals[name] = SideJournal(
                    self._run,
                    folder,
                    world=self._world,
                    server=self._server,
                    is_kept=self._is_kept,
                )

    async def finish(self, *, is_live: bool) -> None:
        """Returns when all of them is durable or refused, and nothing is to come; with `is_live`, what is there by now."""
        self.look()
        for one in self._journals.values():
            await one.finish(is_live=is_live)

    def remove_all(self) -> None:
        """Removes the segments of a run that is complete."""
        for one in self._journals.values():
            one.remove_all()

    async def stop(self) -> None:
        """Ends all that is in flight."""
        for one in self._journals.values():
            await one.stop()


class SideJournal:
    """Follows one of them until `finish`."""

    def __init__(
        self, run: StartedRun, folder: str, *, world: World, server: Server, is_kept: bool
    ) -> None:
        self.name = folder.rpartition("/")[2]
        self.folder = folder
        self._is_kept = is_kept
        self._disk = world.disk
        self.mark = marks.Mark(world.disk, self.folder, time_unix_ns=world.time_unix_ns)
        self._uploader = Uploader(
            server.transport,
            server.repeater,
            run,
            self.mark,
            budget=world.budget,
            journal=self.name,
        )
        self._journal = JournalFollower(
            world.disk, self.folder, durable_sequence=self.mark.durable_sequence
        )
        self._is_last = False
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def finish(self, *, is_live: bool) -> None:
        """Returns when all of it is durable or refused; see SideJournals."""
        if self.name == form.CONSOLE_JOURNAL and not is_live:
            await self._await_keeper()
        self._is_last = True
        await self._task
        await self._uploader.drain()
        is_sent = self._uploader.refusal is None and not self._journal.blocked
        self.mark.is_complete = is_sent and not is_live
        self.mark.write(is_synced=True)

    @property
    def is_there(self) -> bool:
        """Returns whether there is or was anything of it."""
        return self._disk.stamp(self.folder) is not None

    def remove_all(self) -> None:
        """Removes the segments of a run that is complete; of what was not sent, or refused, nothing: it is nowhere else."""
        if self.mark.is_complete and not self.mark.records_refused:
            for path in self._journal.paths():
                self._remove(path)

    async def stop(self) -> None:
        """Ends all that is in flight."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._uploader.stop()
        if self.is_there:  # the folder may be gone, with that of the run
            self.mark.write()
        self._journal.close()

    async def _await_keeper(self) -> None:
        """Returns when the keeper of a dead process's console has ended its journal, or will not."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        while self._journal.finish is None and self._uploader.refusal is None:
            waited_s = loop.time() - started_s
            is_kept = self._disk.is_locked(f"{self.folder}/keeper.lock")
            if waited_s >= (KEEPER_WAIT_S if is_kept else KEEPER_START_WAIT_S):
                return
            if not is_kept and self._journal.next_sequence > 1:
                return
            await asyncio.sleep(POLL_S / 4)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        remove_time_s = 0.0
        while self._uploader.refusal is None:
            is_last = self._is_last  # before reading: what was there by then is read
            has_grown = await submit_all(self._journal, self._uploader, self.mark, hear=self._hear)
            if self._journal.blocked:
                _log.error("side_journal_blocked %s: %s", self.folder, self._journal.blocked)
                return
            if (is_last or self._journal.finish is not None) and not has_grown:
                return
            if not self._is_kept and loop.time() >= remove_time_s:
                remove_time_s = loop.time() + REMOVE_INTERVAL_S
                self._remove_durable()
            await asyncio.sleep(POLL_S)

    def _hear(self, piece: Piece) -> None:
        self.mark.lines.note(piece.events)

    def _remove_durable(self) -> None:
        removable = self._journal.removable(self.mark.durable_sequence)
        if not removable or not self.mark.write(is_synced=True):
            return  # without the mark on the platter, a power cut would make lost records of them
        for path, first, last in removable:
            if self.mark.is_refused(first, last):
                return  # kept, for what the server refused is nowhere else
            self._remove(path)

    def _remove(self, path: str) -> None:
        try:
            self._disk.remove(path)
        except OSError as error:
            _log.warning("segment_not_removed %s: %s", path, error)
