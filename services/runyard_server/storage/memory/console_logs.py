"""The reference of ConsoleLogStore: a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from runyard_server.domain.console import PrintedRun
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.console_logs import ConsoleLog


class MemoryConsoleLogs:
    """Keeps logs in memory."""

    def __init__(self) -> None:
        self.logs: dict[RunKey, ConsoleLog] = {}
        self._due: dict[RunKey, int] = {}

    async def last_seen_block(self) -> int:
        """Returns the latest block seen of any run."""
        return max((one.seen_block for one in self.logs.values()), default=0)

    async def note_printed(self, runs: Sequence[PrintedRun], *, now_unix_ns: int) -> None:
        """Notes later blocks."""
        for run in runs:
            known = self.logs.get(run.run_key)
            if known is None:
                self.logs[run.run_key] = ConsoleLog(run.run_key, run.last_block)
                self._due[run.run_key] = now_unix_ns
            elif known.seen_block < run.last_block:
                if known.archived_block >= known.seen_block:
                    self._due[run.run_key] = now_unix_ns
                self.logs[run.run_key] = replace(known, seen_block=run.last_block)

    async def take_unarchived(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int
    ) -> list[ConsoleLog]:
        """Takes logs that are due and have lines that no archive has."""
        return self._take(
            lambda one: one.archived_block < one.seen_block,
            now_unix_ns=now_unix_ns,
            lease_end_unix_ns=lease_end_unix_ns,
            limit=limit,
        )

    async def take_droppable(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, ended_before_unix_ns: int, limit: int
    ) -> list[ConsoleLog]:
        """Takes logs whose lines may be dropped."""
        return self._take(
            lambda one: (
                one.dropped_block < one.archived_block == one.seen_block
                and one.end_time_unix_ns < ended_before_unix_ns
            ),
            now_unix_ns=now_unix_ns,
            lease_end_unix_ns=lease_end_unix_ns,
            limit=limit,
        )

    async def set_due(self, run_key: RunKey, due_time_unix_ns: int) -> None:
        """Has a log looked at again at that time."""
        if run_key in self.logs:
            self._due[run_key] = due_time_unix_ns

    async def set_archived(
        self, run_key: RunKey, block: int, *, end_time_unix_ns: int, due_time_unix_ns: int
    ) -> None:
        """Notes that all lines up to that block are in the archives."""
        if run_key in self.logs:
            self.logs[run_key] = replace(
                self.logs[run_key], archived_block=block, end_time_unix_ns=end_time_unix_ns
            )
            self._due[run_key] = due_time_unix_ns

    async def set_dropped(self, run_key: RunKey, block: int) -> None:
        """Notes that lines up to that block are in the archives only."""
        if run_key in self.logs:
            self.logs[run_key] = replace(self.logs[run_key], dropped_block=block)

    async def set_unarchived(self, run_key: RunKey, due_time_unix_ns: int) -> None:
        """Notes that an archive turned out to lack lines."""
        if run_key in self.logs:
            self.logs[run_key] = replace(self.logs[run_key], archived_block=0)
            self._due[run_key] = due_time_unix_ns

    async def forget(self, run_key: RunKey) -> None:
        """Removes what is known of a run."""
        self.logs.pop(run_key, None)
        self._due.pop(run_key, None)

    def _take(
        self,
        is_wanted: Callable[[ConsoleLog], bool],
        *,
        now_unix_ns: int,
        lease_end_unix_ns: int,
        limit: int,
    ) -> list[ConsoleLog]:
        due = sorted(
            (self._due[key], key)
            for key, one in self.logs.items()
            if is_wanted(one) and self._due[key] <= now_unix_ns
        )
        taken = [key for _, key in due[:limit]]
        for key in taken:
            self._due[key] = lease_end_unix_ns
        return [self.logs[key] for key in taken]
