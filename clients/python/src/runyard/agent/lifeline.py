"""What an agent knows of the life of one run's training process: by its lock, by its pid, and from an agent before."""

from __future__ import annotations

import asyncio
import logging

from runyard.agent import endings
from runyard.agent.mark import read_json
from runyard.agent.ports import Disk, ProcessEnd, Processes, ProcessWatch

_log = logging.getLogger("runyard.agent")


class Lifeline:
    """Watches the process of a run folder until `close`; without `processes` its lock alone tells whether it lives."""

    def __init__(self, disk: Disk, folder: str, processes: Processes | None) -> None:
        self.watch: ProcessWatch | None = processes.watch(folder) if processes is not None else None
        self._disk = disk
        self._lock_path = f"{folder}/writer.lock"
        self._end_path = f"{folder}/process.json"
        self._is_kept = False

    def end(self) -> ProcessEnd | None:
        """Returns how the process ended: by this agent's watch, or by that of an agent before; None if nobody knows."""
        if self.watch is not None:
            return self.watch.end
        return endings.read_end(read_json(self._disk, self._end_path) or {})

    @property
    def is_cut(self) -> bool:
        """Returns whether the process is seen to have ended."""
        return self.watch is not None and self.watch.end is not None

    def is_alive(self) -> bool:
        """Looks whether the process lives: it holds its lock, and is not seen to have ended."""
        if self.watch is not None:
            self.watch.look()
        return self._disk.is_locked(self._lock_path) and not self.is_cut

    async def wait(self, timeout_s: float) -> ProcessEnd | None:
        """Returns how the process ended as soon as that is seen, or None after the time; at once without a watch."""
        return await self.watch.wait(timeout_s) if self.watch is not None else None

    async def pause(self, pause_s: float) -> None:
        """Returns after the pause, or when the process ends."""
        if self.watch is None or self.is_cut:
            await asyncio.sleep(pause_s)
        else:
            await self.watch.wait(pause_s)

    def keep(self) -> None:
        """Writes down how the process ended, for an agent that comes when nobody can ask the system any more."""
        if self._is_kept or self.watch is None or self.watch.end is None:
            return
        self._is_kept = True
        try:
            content = endings.kept_end(self.watch.end)
            self._disk.replace(self._end_path, content, is_synced=False)
        except OSError as error:
            _log.error("end_not_kept %s: %s; make room there", self._end_path, error)

    def close(self) -> None:
        """Stops watching."""
        if self.watch is not None:
            self.watch.close()
