"""What reading of archives needs of the store that has lines first, beside ConsoleReader: whole stretches of lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from runyard_server.domain.console import PrintedRun
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.console import ConsoleReader

EXTENT_LINES = 8_192


@dataclass(frozen=True, slots=True)
class LineExtent:
    """Where some lines of a writer lie: first and last number, lowest and highest time."""

    writer: int
    first_line: int
    last_line: int
    low_ms: int
    high_ms: int


class HotConsole(ConsoleReader, Protocol):
    """The store that has lines first, and from which those of old runs are dropped. Tables have the columns of format.LINES."""

    async def dropped_block(self, run_key: RunKey) -> int:
        """Returns up to which block lines of the run were dropped or are about to be; 0: none."""
        ...

    async def read_extents(self, run_key: RunKey) -> list[LineExtent]:
        """Returns where the lines lie that are there, by writer and line, in stretches of at most EXTENT_LINES numbers."""
        ...

    async def read_span(
        self, run_key: RunKey, writer: int, first_line: int, last_line: int
    ) -> pa.Table:
        """Returns lines of a writer by number."""
        ...

    async def read_page(
        self, run_key: RunKey, writer: int, after_line: int, *, bytes_max: int
    ) -> pa.Table:
        """Returns lines of a writer behind that one, by number; so many that texts have about `bytes_max` bytes, or a good many lines."""
        ...

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came after that block, by their latest block."""
        ...
