"""Promises of the store that knows how far the logs of runs are archived, and which lines were dropped from ClickHouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.console import PrintedRun
from runyard_server.domain.run import RunKey


@dataclass(frozen=True, slots=True)
class ConsoleLog:
    """One run's log. Blocks are Unix ns; see BlocksSeen."""

    run_key: RunKey
    seen_block: int
    """The latest block that brought lines, as far as is known."""
    archived_block: int = 0
    """Lines up to this block are in the archives; 0: there is none."""
    dropped_block: int = 0
    """Lines up to this block are in the archives only; 0: all are in ClickHouse."""
    end_time_unix_ns: int = 0
    """When the run ended, as it was known when the archive was made."""


class ConsoleLogStore(Protocol):
    """Keeps one row per run that printed. Each call is one transaction. Raises Unavailable if it does not answer.

    What is taken is left alone by others until the lease ends, or until it is told what became of it.
    """

    async def last_seen_block(self) -> int:
        """Returns the latest block seen of any run; 0 if none was."""
        ...

    async def note_printed(self, runs: Sequence[PrintedRun], *, now_unix_ns: int) -> None:
        """Notes later blocks; a log that was archived whole is due at once then. Safe to repeat."""
        ...

    async def take_unarchived(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int
    ) -> list[ConsoleLog]:
        """Takes logs that are due and have lines that no archive has."""
        ...

    async def take_droppable(
        self, *, now_unix_ns: int, lease_end_unix_ns: int, ended_before_unix_ns: int, limit: int
    ) -> list[ConsoleLog]:
        """Takes logs of runs that ended before that time, are archived whole, and have lines that may be dropped."""
        ...

    async def set_due(self, run_key: RunKey, due_time_unix_ns: int) -> None:
        """Has a log looked at again at that time; a later time than now renews a lease."""
        ...

    async def set_archived(
        self, run_key: RunKey, block: int, *, end_time_unix_ns: int, due_time_unix_ns: int
    ) -> None:
        """Notes that all lines up to that block are in the archives."""
        ...

    async def set_dropped(self, run_key: RunKey, block: int) -> None:
        """Notes that lines up to that block are in the archives only."""
        ...

    async def set_unarchived(self, run_key: RunKey, due_time_unix_ns: int) -> None:
        """Notes that an archive turned out to lack lines: it is made again. What was dropped stays noted."""
        ...

    async def forget(self, run_key: RunKey) -> None:
        """Removes what is known of a run. Safe to repeat."""
        ...
