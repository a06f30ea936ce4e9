"""The reference of ConsoleReader, and of what PointWriter promises about lines: a dictionary of lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from runyard_server.domain.console import PrintedRun, without_escapes
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.points import Batch
from runyard_server.domain.run import RunKey
from runyard_server.storage.archive.format import LINES
from runyard_server.storage.archive.hot import EXTENT_LINES, LineExtent
from runyard_server.storage.ports.console import (
    BlocksSeen,
    LineFilter,
    LinePlace,
    LineRows,
    WriterLines,
)

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Line:
    sequence: int
    time_unix_ms: int
    stream: int
    text: str
    block: int


class MemoryConsole:
    """Keeps lines in memory, by run, writer and number."""

    def __init__(self) -> None:
        self._lines: dict[RunKey, dict[tuple[int, int], _Line]] = {}
        self._block = 0
        self._dropped: dict[RunKey, int] = {}
        self._printed: dict[RunKey, int] = {}

    def insert(self, batches: Iterable[Batch]) -> None:
        """Stores the lines of one block."""
        self._block += 1
        for batch in batches:
            for block in batch.console_blocks:
                self._printed[batch.run_key] = self._block
                kept = self._lines.setdefault(batch.run_key, {})
                for place, text in enumerate(block.text.decode().split("\n")):
                    key = (batch.writer, block.first_line + place)
                    known = kept.get(key)
                    if known is None or known.sequence <= block.sequence:
                        kept[key] = _Line(
                            block.sequence,
                            block.time_unix_ns // _NS_PER_MS,
                            block.stream,
                            text,
                            self._block,
                        )

    def purge(self, run_keys: Sequence[RunKey]) -> None:
        """Removes the lines of runs."""
        for run_key in run_keys:
            self._lines.pop(run_key, None)
            self._dropped.pop(run_key, None)
            self._printed.pop(run_key, None)

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
        """Returns a page of lines; see ConsoleReader."""
        found = self._find(run_key, where)
        if after is not None:
            found = [p for p in found if (p < after if is_newest_first else p > after)]
        return self._page(
            run_key, found, is_newest_first=is_newest_first, limit=limit, bytes_max=bytes_max
        )

    async def read_changes(
        self,
        run_key: RunKey,
        where: LineFilter,
        *,
        since: BlocksSeen,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        """Returns lines of blocks not seen; see ConsoleReader."""
        lines = self._lines.get(run_key, {})
        blocks = {p: lines[p.writer, p.line].block for p in self._find(run_key, where)}
        found = [p for p, one in blocks.items() if one > since.floor and one not in since.blocks]
        return self._page(run_key, found, is_newest_first=True, limit=limit, bytes_max=bytes_max)

    async def read_around(
        self, run_key: RunKey, places: Sequence[LinePlace], *, count: int, bytes_max: int
    ) -> LineRows:
        """Returns lines and their neighbours; see ConsoleReader."""
        found = [
            place
            for place in self._find(run_key, LineFilter())
            if any(p.writer == place.writer and abs(p.line - place.line) <= count for p in places)
        ]
        wanted = {(place.writer, place.line) for place in places}
        kept: list[LinePlace] = []
        size_bytes = 0
        for place in found:
            is_match = (place.writer, place.line) in wanted
            if not is_match:
                size_bytes += len(self._lines[run_key][place.writer, place.line].text.encode())
            if is_match or size_bytes <= bytes_max:
                kept.append(place)
        return self._rows(run_key, kept, has_more=len(kept) < len(found))

    async def see_blocks(self, run_key: RunKey, *, span_ns: int, count_max: int) -> BlocksSeen:
        """Returns what a read that begins now sees; see ConsoleReader."""
        every = sorted({line.block for line in self._lines.get(run_key, {}).values()})
        floor = max(0, self._printed.get(run_key, 0) - span_ns)
        return BlocksSeen(floor, tuple(one for one in every if one > floor)[-count_max:])

    async def count_lines(self, run_key: RunKey) -> list[WriterLines]:
        """Returns how much each writer printed; see ConsoleReader."""
        lines = self._lines.get(run_key, {})
        found = []
        for writer in sorted({writer for writer, _ in lines}):
            numbers = [number for one, number in lines if one == writer]
            times = [lines[writer, number].time_unix_ms for number in numbers]
            found.append(WriterLines(writer, len(numbers), max(numbers), min(times), max(times)))
        return found

    async def dropped_block(self, run_key: RunKey) -> int:
        """Returns up to which block lines were dropped; see HotConsole."""
        return self._dropped.get(run_key, 0)

    async def read_extents(self, run_key: RunKey) -> list[LineExtent]:
        """Returns where lines lie; see HotConsole."""
        found: dict[tuple[int, int], LineExtent] = {}
        for (writer, number), line in sorted(self._lines.get(run_key, {}).items()):
            key = (writer, number // EXTENT_LINES)
            known = found.get(key, LineExtent(writer, number, number, 1 << 62, 0))
            low = min(known.low_ms, line.time_unix_ms)
            high = max(known.high_ms, line.time_unix_ms)
            found[key] = LineExtent(writer, known.first_line, number, low, high)
        return list(found.values())

    async def read_span(
        self, run_key: RunKey, writer: int, first_line: int, last_line: int
    ) -> pa.Table:
        """Returns lines by number; see HotConsole."""
        rows = [
            {
                "line": number,
                "time": line.time_unix_ms,
                "stream": line.stream,
                "text": line.text,
                "sequence": line.sequence,
            }
            for (one, number), line in sorted(self._lines.get(run_key, {}).items())
            if one == writer and first_line <= number <= last_line
        ]
        return pa.Table.from_pylist(rows, schema=LINES)

    async def read_page(
        self, run_key: RunKey, writer: int, after_line: int, *, bytes_max: int
    ) -> pa.Table:
        """Returns lines by number, few at a time; see HotConsole."""
        return (await self.read_span(run_key, writer, after_line + 1, 1 << 62)).slice(0, 1_000)

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came; see HotConsole."""
        found = [PrintedRun(*one) for one in self._printed.items() if one[1] > since_block]
        return sorted(found, key=lambda one: (one.last_block, one.run_key))[:limit]

    async def drop_lines(self, drops: Sequence[tuple[RunKey, int]]) -> None:
        """Removes lines; see ConsoleDropper."""
        for run_key, block in drops:
            self._dropped[run_key] = max(block, self._dropped.get(run_key, 0))
            kept = self._lines.get(run_key, {}).items()
            self._lines[run_key] = {key: line for key, line in kept if line.block > block}

    def _find(self, run_key: RunKey, where: LineFilter) -> list[LinePlace]:
        matches = _matcher(where)
        return sorted(
            LinePlace(line.time_unix_ms, writer, number)
            for (writer, number), line in self._lines.get(run_key, {}).items()
            if (not where.writers or writer in where.writers)
            and (not where.streams or line.stream in where.streams)
            and (where.first_time_unix_ms is None or line.time_unix_ms >= where.first_time_unix_ms)
            and (where.last_time_unix_ms is None or line.time_unix_ms <= where.last_time_unix_ms)
            and _contains(without_escapes(line.text), where)
            and (matches is None or matches.search(without_escapes(line.text)))
        )

    def _page(
        self,
        run_key: RunKey,
        found: list[LinePlace],
        *,
        is_newest_first: bool,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        kept: list[LinePlace] = []
        size_bytes = 0
        for place in reversed(found) if is_newest_first else found:
            size_bytes += len(self._lines[run_key][place.writer, place.line].text.encode())
            if len(kept) == limit or (kept and size_bytes > bytes_max):
                break
            kept.append(place)
        return self._rows(run_key, sorted(kept), has_more=len(kept) < len(found))

    def _rows(self, run_key: RunKey, places: list[LinePlace], *, has_more: bool) -> LineRows:
        lines = [self._lines[run_key][place.writer, place.line] for place in places]
        return LineRows(
            writers=[place.writer for place in places],
            lines=[place.line for place in places],
            times_unix_ms=[place.time_unix_ms for place in places],
            streams=[line.stream for line in lines],
            texts=[line.text for line in lines],
            has_more=has_more,
        )


def _contains(text: str, where: LineFilter) -> bool:
    if where.is_case_sensitive:
        return where.contains in text
    return _lower(where.contains) in _lower(text)


def _lower(text: str) -> str:
    """Returns the text with small letters for the capital ones of ASCII."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _matcher(where: LineFilter) -> re.Pattern[str] | None:
    if not where.matches:
        return None
    try:
        return re.compile(where.matches, 0 if where.is_case_sensitive else re.IGNORECASE)
    except re.error as error:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"matches is {where.matches!r}: {error}",
            metadata={"field": "matches", "value": where.matches},
        ) from error
