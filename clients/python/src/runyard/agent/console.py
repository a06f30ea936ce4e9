"""Carries the console's journal of a run to the server, beside the run's own."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from runyard.agent import mark as marks
from runyard.agent.ports import StartedRun
from runyard.agent.reader import JournalFollower
from runyard.agent.uploader import Uploader

if TYPE_CHECKING:
    from runyard.agent.run import Server, World

POLL_S = 0.2
END_WAIT_S = 10.0
"""How long the end of a run waits for a keeper that lives and does not end its journal."""
START_WAIT_S = 1.0
"""How long it waits for one that may just be starting."""
REMOVE_INTERVAL_S = 1.0

_log = logging.getLogger("runyard.agent")


class ConsoleUpload:
    """Follows `console` in a run folder until `finish`."""

    def __init__(
        self,
        run: StartedRun,
        folder: str,
        *,
        world: World,
        server: Server,
    ) -> None:
        self.folder = f"{folder}/console"
        self._disk = world.disk
        self.mark = marks.Mark(world.disk, self.folder, time_unix_ns=world.time_unix_ns)
        self._uploader = Uploader(
            server.transport,
            server.repeater,
            run,
            self.mark,
            budget=world.budget,
            is_console=True,
        )
        self._journal = JournalFollower(
            world.disk, self.folder, durable_sequence=self.mark.durable_sequence
        )
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._is_last = False

    async def finish(self, *, is_live: bool) -> None:
        """Returns when all that was printed is durable or refused; nothing of the run is printed any more.

        With `is_live` it is: only what is there by now is sent.
        """
        if not self.is_there:
            return
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        while not is_live and self._journal.finish is None and self._uploader.refusal is None:
            waited_s = loop.time() - started_s
            is_kept = self._disk.is_locked(f"{self.folder}/keeper.lock")
            if waited_s >= (END_WAIT_S if is_kept else START_WAIT_S):
                break
            if not is_kept and self._journal.next_sequence > 1:
                break
            await asyncio.sleep(POLL_S / 4)
        self._is_last = True
        await asyncio.gather(self._task, return_exceptions=True)
        if self._uploader.refusal is None:
            await self._uploader.drain()
        self.mark.is_complete = not is_live
        self.mark.write()

    @property
    def is_there(self) -> bool:
        """Returns whether anything is or was kept of the console."""
        return self._disk.stamp(self.folder) is not None

    def remove_all(self) -> None:
        """Removes what is durable of a run that is complete; what was refused is nowhere else, and stays."""
        if not self.mark.records_refused:
            for path in self._journal.paths():
                self._remove(path)

    async def stop(self) -> None:
        """Ends all that is in flight."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._uploader.stop()
        if self.is_there:
            self.mark.write()
        self._journal.close()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        remove_time_s = 0.0
        while self._uploader.refusal is None:
            is_last = self._is_last  # before reading: what was there by then is read
            has_grown = False
            piece = self._journal.read()
            while piece is not None and self._uploader.refusal is None:
                has_grown = True
                await self._uploader.submit(piece)
                piece = self._journal.read()
            self.mark.written_sequence = max(
                self.mark.written_sequence, self._journal.next_sequence - 1
            )
            if self._journal.blocked:
                _log.error("console_blocked %s: %s", self.folder, self._journal.blocked)
                return
            if (is_last or self._journal.finish is not None) and not has_grown:
                return
            if loop.time() >= remove_time_s:
                remove_time_s = loop.time() + REMOVE_INTERVAL_S
                self._remove_durable()
            await asyncio.sleep(POLL_S)

    def _remove_durable(self) -> None:
        for path, first, last in self._journal.removable(self.mark.durable_sequence):
            if not self.mark.is_refused(first, last):
                self._remove(path)

    def _remove(self, path: str) -> None:
        try:
            self._disk.remove(path)
        except OSError as error:
            _log.warning("segment_not_removed %s: %s", path, error)
