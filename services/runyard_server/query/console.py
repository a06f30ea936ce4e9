"""Reads of what runs print: checks what is asked, finds matches and their neighbours, follows what comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from runyard_server.domain.console import ConsoleStream
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.page_tokens import make_page_token, read_page_token
from runyard_server.domain.run import RunKey
from runyard_server.query import planner
from runyard_server.query.runs import RunFinder
from runyard_server.storage.ports.console import (
    BlocksSeen,
    ConsoleExporter,
    ConsoleReader,
    LineFilter,
    LinePlace,
    LineRows,
    WriterLines,
)

PAGE_DEFAULT, PAGE_MAX = 1_000, 10_000
PRINTED_DEFAULT, PRINTED_MAX = 1_000, 10_000
PAGE_BYTES_MAX = 8 * 1024 * 1024
CONTEXT_MAX = 20
CONTEXT_PAGE_MAX = 1_000
"""Matches in one reply where lines around them come too: a statement names each."""
BLOCKS_SPAN_NS = 5_000_000_000
"""A block may become visible by so much later than one that was made after it: younger ones are named in a token one by one."""
BLOCKS_NAMED_MAX = 400
"""Blocks that a token names, some 8 bytes each."""


@dataclass(frozen=True, slots=True)
class ConsoleAsk:
    """Which lines are wanted; see query.v1.ListConsoleLinesRequest."""

    run_path: str
    where: LineFilter = field(default_factory=LineFilter)
    is_newest_first: bool = False
    page_size: int = 0
    page_token: str = ""
    context_line_count: int = 0
    changes_token: str = ""


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """Lines; `is_match` is empty where all are what was asked for."""

    rows: LineRows
    is_match: list[bool]
    next_page_token: str
    changes_token: str
    is_cut: bool = False


class ConsoleStore(ConsoleReader, ConsoleExporter, Protocol):
    """What lines are read from."""


class ConsoleQueries:
    """Answers ListConsoleLines and GetConsole, and what archives are made from."""

    def __init__(self, reader: ConsoleStore, finder: RunFinder) -> None:
        self.exporter: ConsoleExporter = reader
        """Hands out lines whole, to services that name a run by its key."""
        self._reader = reader
        self._finder = finder

    async def list_lines(self, ask: ConsoleAsk) -> ConsolePage:
        """Returns a page of lines, or what changed since a token was given."""
        where = _checked(ask.where)
        limit = planner.clamp(ask.page_size, default=PAGE_DEFAULT, most=PAGE_MAX)
        is_search = bool(where.contains or where.matches)
        context = min(ask.context_line_count, CONTEXT_MAX) if is_search else 0
        if context:
            limit = min(limit, CONTEXT_PAGE_MAX)
        run = await self._finder.find(ask.run_path)
        since = _read_changes_token(ask.run_path, ask.changes_token)
        # Asked before the lines are read: what comes meanwhile is told once more rather than never.
        seen = await self._reader.see_blocks(
            run.run_key, span_ns=BLOCKS_SPAN_NS, count_max=BLOCKS_NAMED_MAX
        )
        token = _make_changes_token(ask.run_path, seen)
        if since is not None:
            if seen == since and len(seen.blocks) < BLOCKS_NAMED_MAX:
                return ConsolePage(LineRows([], [], [], [], []), [], "", token)
            rows = await self._reader.read_changes(
                run.run_key, where, since=since, limit=limit, bytes_max=PAGE_BYTES_MAX
            )
            return ConsolePage(rows, [], "", token, is_cut=rows.has_more)
        query = f"lines {ask.run_path} {where} {ask.is_newest_first}"
        position = read_page_token(query, ask.page_token, int, int, int)
        rows = await self._reader.read_lines(
            run.run_key,
            where,
            after=LinePlace(*map(int, position)) if position else None,
            is_newest_first=ask.is_newest_first,
            limit=limit,
            bytes_max=PAGE_BYTES_MAX,
        )
        next_token = ""
        if rows.has_more:
            last = rows.place(0 if ask.is_newest_first else len(rows.lines) - 1)
            next_token = make_page_token(query, last.time_unix_ms, last.writer, last.line)
        if not (context and rows.lines):
            return ConsolePage(rows, [], next_token, token)
        rows, is_match = await self._with_context(run.run_key, rows, context)
        return ConsolePage(rows, is_match, next_token, token, is_cut=rows.has_more)

    async def count_lines(self, run_path: str) -> list[WriterLines]:
        """Returns how much each writer of a run printed."""
        run = await self._finder.find(run_path)
        return await self._reader.count_lines(run.run_key)

    async def _with_context(
        self, run_key: RunKey, matches: LineRows, count: int
    ) -> tuple[LineRows, list[bool]]:
        places = [matches.place(index) for index in range(len(matches.lines))]
        wide = await self._reader.read_around(
            run_key, places, count=count, bytes_max=PAGE_BYTES_MAX
        )
        wanted = {(place.writer, place.line) for place in places}
        keys = zip(wide.writers, wide.lines, strict=True)
        return wide, [key in wanted for key in keys]


def _make_changes_token(run_path: str, seen: BlocksSeen) -> str:
    """Returns the token; the blocks are told by how far they lie above the floor, in hexadecimal."""
    above = " ".join(f"{block - seen.floor:x}" for block in seen.blocks)
    return make_page_token(f"changes {run_path}", seen.floor, above)


def _read_changes_token(run_path: str, token: str) -> BlocksSeen | None:
    position = read_page_token(f"changes {run_path}", token, int, str)
    if position is None:
        return None
    floor, above = int(position[0]), str(position[1])
    try:
        return BlocksSeen(floor, tuple(floor + int(one, 16) for one in above.split()))
    except ValueError:
        raise _invalid("changes_token", floor, "it was not given by this server") from None


def _checked(where: LineFilter) -> LineFilter:
    planner.check_text("contains", where.contains)
    planner.check_text("matches", where.matches)
    if len(where.writers) > planner.WRITERS_MAX:
        raise _invalid("writers", len(where.writers), f"at most {planner.WRITERS_MAX} are allowed")
    unknown = set(where.streams) - set(ConsoleStream)
    if unknown:
        raise _invalid("streams", min(unknown), "streams are STDOUT, STDERR and NOTE")
    return where


def _invalid(name: str, value: int, problem: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID", f"{name} is {value}: {problem}", metadata={"field": name, "value": value}
    )
