"""Promises of the store of what runs print; it is written as part of blocks, see PointWriter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.console import ArchiveCheck, ConsoleArchive, PrintedRun
from runyard_server.domain.run import RunKey


@dataclass(frozen=True, slots=True, order=True)
class LinePlace:
    """Where a line stands among those of its run: by time, writer and number."""

    time_unix_ms: int
    writer: int
    line: int


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Which lines are wanted; () and "" and None leave nothing out."""

    writers: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    contains: str = ""
    matches: str = ""
    """A regular expression of RE2 that is found anywhere in the line."""
    is_case_sensitive: bool = False
    """False: capital letters of ASCII are as small ones."""
    first_time_unix_ms: int | None = None
    last_time_unix_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LineRows:
    """Lines, as columns of one length, in the order of LinePlace."""

    writers: list[int]
    lines: list[int]
    times_unix_ms: list[int]
    streams: list[int]
    texts: list[str]
    has_more: bool = False
    """Whether a limit left lines out."""

    def place(self, index: int) -> LinePlace:
        """Returns where a line stands."""
        return LinePlace(self.times_unix_ms[index], self.writers[index], self.lines[index])


@dataclass(frozen=True, slots=True)
class WriterLines:
    """How much a writer printed."""

    writer: int
    line_count: int
    last_line: int
    first_time_unix_ms: int
    last_time_unix_ms: int


@dataclass(frozen=True, slots=True)
class BlocksSeen:
    """Blocks of a run that a reader knows: all up to `floor`, and some later ones."""

    floor: int = 0
    blocks: tuple[int, ...] = ()


class ConsoleReader(Protocol):
    """Reads lines. Searches look at texts without their ANSI colours.

    Of a line that was told several times only the text with the highest sequence MUST be seen, also by filters.

    Raises Unavailable, and InvalidArgument for a regular expression that cannot be.
    """

    async def read_lines(
        self,
        run_key: RunKey,
        where: LineFilter,
        *,
        after: LinePlace | None,
        is_newest_first: bool,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        """Returns the first lines behind `after`, or with `is_newest_first` the last ones before it; ascending either way.

        At most `limit`, and so many that their texts have about `bytes_max` bytes together, but at least one if there is one.
        """
        ...

    async def read_changes(
        self,
        run_key: RunKey,
        where: LineFilter,
        *,
        since: BlocksSeen,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        """Returns the last of the lines that other blocks than those seen brought, as they are now."""
        ...

    async def read_around(
        self, run_key: RunKey, places: Sequence[LinePlace], *, count: int, bytes_max: int
    ) -> LineRows:
        """Returns the lines of the places and `count` lines of the same writer before and behind each, each once.

        Of the lines around, the last ones are left out, which `has_more` says, where together they have more than `bytes_max` bytes.
        """
        ...

    async def see_blocks(self, run_key: RunKey, *, span_ns: int, count_max: int) -> BlocksSeen:
        """Returns the blocks that a read which begins now sees.

        A block may become visible later than one that was made after it, but not by more than `span_ns`: the floor lies so far
        below the latest block. Of the blocks above it the last `count_max` are named; lines of the others may come again.
        """
        ...

    async def count_lines(self, run_key: RunKey) -> list[WriterLines]:
        """Returns how much each writer printed, by number."""
        ...


class ArchiveSource(Protocol):
    """What has the archives: rpc.siblings.Siblings, which asks files."""

    async def list_console_archives(self, run_key: RunKey) -> list[ConsoleArchive]:
        """Returns the archives of a run, by writer; [] if it has none. Raises Unavailable."""
        ...

    async def read_console_archive(
        self, run_key: RunKey, object_key: str, *, offset: int, size_bytes: int
    ) -> bytes:
        """Returns a part of an object. Raises NotFound if another one took its place, Unavailable."""
        ...


class ConsoleExporter(Protocol):
    """Hands out lines whole, for archives; pages are as archives take them."""

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came after that block, by their latest block."""
        ...

    async def export_lines(
        self, run_key: RunKey, writer: int, *, after_line: int
    ) -> tuple[bytes, int]:
        """Returns lines of a writer behind that one, packed, and the number of the last of them; 0: there are none."""
        ...

    async def check_archive(self, run_key: RunKey, writer: int, *, after_line: int) -> ArchiveCheck:
        """Compares some lines behind that one with the writer's archive, read back from where it lies."""
        ...


class ConsoleDropper(Protocol):
    """Removes lines from the store that has them first."""

    async def drop_lines(self, drops: Sequence[tuple[RunKey, int]]) -> None:
        """Removes the lines of each run that came up to a block, for good; readers go to the archives from then on. Safe to repeat."""
        ...


class ArchiveDraft(Protocol):
    """An archive being written on this disk."""

    line_count: int

    def add(self, page: bytes) -> None:
        """Adds lines as ConsoleExporter packs them; they come by number."""
        ...

    def close(self) -> None:
        """Ends it. Safe to repeat."""
        ...

    def digest(self) -> tuple[int, bytes]:
        """Returns the size and the SHA-256 of the closed archive."""
        ...

    def read_part(self, offset: int, size_bytes: int) -> bytes:
        """Returns a part of the closed archive."""
        ...
