"""Lines of a run, wherever they lie: in the store that has them first, or, where that dropped them, in archives; the reader sees no difference.

A run whose lines are all in the first store is read there alone. The mark that lines are dropped is set before they go: a read
of the first store is whole if the mark is not there after it. From then on a run is read in frames (frames.py).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runyard_server.domain.console import ArchiveCheck, PrintedRun
from runyard_server.domain.errors import NotFound, Unavailable
from runyard_server.domain.run import RunKey
from runyard_server.storage.archive import around, filtering
from runyard_server.storage.archive.fetching import ArchiveFetcher, Found
from runyard_server.storage.archive.format import LINES, pack_lines
from runyard_server.storage.archive.frames import Frame, merge_lines
from runyard_server.storage.archive.hot import HotConsole
from runyard_server.storage.archive.picking import Picker
from runyard_server.storage.ports.console import (
    ArchiveSource,
    BlocksSeen,
    LineFilter,
    LinePlace,
    LineRows,
    WriterLines,
)

STRIDE_MAX: Final = 32
"""Frames read at once, at most: a page needs one or two, a search that finds little reads on in longer strides."""
PAGE_BYTES: Final = 8 * 1024 * 1024
TRIES: Final = 4
"""How often a read begins anew when archives are replaced or lines dropped under it."""
_DROPPED_MAX: Final = 10_000

_Result = TypeVar("_Result")


class LayeredConsole:
    """The ports ConsoleReader and ConsoleExporter over the first store and archives."""

    def __init__(self, hot: HotConsole, archives: ArchiveSource) -> None:
        self._hot = hot
        self._fetcher = ArchiveFetcher(archives)
        self._dropped: OrderedDict[RunKey, None] = OrderedDict()
        """Runs that are known to be read in frames: the first store is not asked in vain."""

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

        async def read_hot() -> LineRows:
            return await self._hot.read_lines(
                run_key,
                where,
                after=after,
                is_newest_first=is_newest_first,
                limit=limit,
                bytes_max=bytes_max,
            )

        async def read_frames(found: Found) -> LineRows:
            picker = Picker(
                where,
                after=after,
                is_newest_first=is_newest_first,
                limit=limit,
                bytes_max=bytes_max,
            )
            filtering.check_expression(where)
            await self._scan(run_key, found, picker)
            return picker.rows()

        return await self._read(run_key, read_hot, read_frames)

    async def read_changes(
        self,
        run_key: RunKey,
        where: LineFilter,
        *,
        since: BlocksSeen,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        """Returns lines of blocks not seen; see ConsoleReader. Where they may be dropped or archived, only that there are some."""

        async def read_hot() -> LineRows:
            return await self._hot.read_changes(
                run_key, where, since=since, limit=limit, bytes_max=bytes_max
            )

        async def read_frames(found: Found) -> LineRows:
            if max(since.floor, *since.blocks, 0) < found.dropped_block:
                return LineRows([], [], [], [], [], has_more=True)
            rows = await read_hot()
            if any(writer in found.archives for writer in rows.writers):
                return LineRows([], [], [], [], [], has_more=True)
            return rows

        return await self._read(run_key, read_hot, read_frames)

    async def read_around(
        self, run_key: RunKey, places: Sequence[LinePlace], *, count: int, bytes_max: int
    ) -> LineRows:
        """Returns lines and their neighbours; see ConsoleReader."""

        async def read_hot() -> LineRows:
            return await self._hot.read_around(run_key, places, count=count, bytes_max=bytes_max)

        async def read_frames(found: Found) -> LineRows:
            spans = around.spans(places, count)
            wanted = [frame for frame in found.frames if around.touches(frame, spans)]
            tables = []
            for start in range(0, len(wanted), STRIDE_MAX):
                some = wanted[start : start + STRIDE_MAX]
                for frame, table in zip(some, await self._load(run_key, found, some), strict=True):
                    tables.append((frame.writer, around.cut(table, frame.writer, spans)))
            return around.rows(tables, places, bytes_max=bytes_max)

        return await self._read(run_key, read_hot, read_frames)

    async def see_blocks(self, run_key: RunKey, *, span_ns: int, count_max: int) -> BlocksSeen:
        """Returns what a read that begins now sees; see ConsoleReader."""
        return await self._hot.see_blocks(run_key, span_ns=span_ns, count_max=count_max)

    async def count_lines(self, run_key: RunKey) -> list[WriterLines]:
        """Returns how much each writer printed; see ConsoleReader."""

        async def read_hot() -> list[WriterLines]:
            return await self._hot.count_lines(run_key)

        async def read_frames(found: Found) -> list[WriterLines]:
            totals: dict[int, WriterLines] = {}
            for frame in found.frames:
                if frame.has_later:
                    (table,) = await self._load(run_key, found, [frame])
                    if not table.num_rows:
                        continue
                    times = pc.min_max(table["time"]).as_py()
                    part = WriterLines(
                        frame.writer,
                        table.num_rows,
                        table["line"][-1].as_py(),
                        times["min"],
                        times["max"],
                    )
                else:
                    part = found.archives[frame.writer].group_lines(frame.group, frame.writer)
                totals[frame.writer] = _added(totals.get(frame.writer), part)
            return list(totals.values())

        return await self._read(run_key, read_hot, read_frames)

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came; see ConsoleExporter."""
        return await self._hot.list_printed(since_block=since_block, limit=limit)

    async def export_lines(
        self, run_key: RunKey, writer: int, *, after_line: int
    ) -> tuple[bytes, int]:
        """Returns lines whole; see ConsoleExporter."""

        async def read_hot() -> pa.Table:
            return await self._hot.read_page(run_key, writer, after_line, bytes_max=PAGE_BYTES)

        async def read_frames(found: Found) -> pa.Table:
            tables = [LINES.empty_table()]
            size_bytes = 0
            for frame in found.frames:
                if frame.writer != writer or frame.last_line <= after_line:
                    continue
                (table,) = await self._load(run_key, found, [frame])
                tables.append(table.filter(pc.greater(table["line"], after_line)))
                size_bytes += tables[-1].nbytes
                if size_bytes >= PAGE_BYTES:
                    break
            return pa.concat_tables(tables)

        table = await self._read(run_key, read_hot, read_frames)
        last = int(table["line"][-1].as_py()) if table.num_rows else 0
        return await asyncio.to_thread(pack_lines, table), last

    async def check_archive(self, run_key: RunKey, writer: int, *, after_line: int) -> ArchiveCheck:
        """Compares lines of the first store with the archive; see ConsoleExporter."""
        page = await self._hot.read_page(run_key, writer, after_line, bytes_max=PAGE_BYTES)
        if not page.num_rows:
            return ArchiveCheck(after_line, 0, has_more=False)
        first, last = page["line"][0].as_py(), page["line"][-1].as_py()
        found = await self._fetcher.find(run_key, [], 0)
        frames = [
            frame
            for frame in found.frames
            if frame.writer == writer and frame.last_line >= first and frame.first_line <= last
        ]
        kept = [await self._fetcher.load(run_key, found, [frame]) for frame in frames]
        archived = pa.concat_tables([LINES.empty_table(), *(one for part in kept for one in part)])
        missing = await asyncio.to_thread(_count_missing, page, archived)
        return ArchiveCheck(last, missing, has_more=True)

    async def _read(
        self,
        run_key: RunKey,
        read_hot: Callable[[], Awaitable[_Result]],
        read_frames: Callable[[Found], Awaitable[_Result]],
    ) -> _Result:
        if run_key not in self._dropped:
            result = await read_hot()
            # Asked after: a mark that is not there yet means that all lines were.
            if not await self._hot.dropped_block(run_key):
                return result
            self._dropped[run_key] = None
            while len(self._dropped) > _DROPPED_MAX:
                self._dropped.popitem(last=False)
        for _ in range(TRIES):
            block = await self._hot.dropped_block(run_key)
            if not block:  # The run was purged.
                self._dropped.pop(run_key, None)
                return await read_hot()
            try:
                extents = await self._hot.read_extents(run_key)
                result = await read_frames(await self._fetcher.find(run_key, extents, block))
            except NotFound:
                self._fetcher.forget(
                    run_key
                )  # A newer archive took the place of the one that was known.
                continue
            if await self._hot.dropped_block(run_key) == block:
                return result
        raise Unavailable(
            "STORE_UNAVAILABLE",
            "the archive of this log is being made anew; repeat in a moment",
            metadata={"store": "archive"},
            retry_delay_s=1.0,
        )

    async def _scan(self, run_key: RunKey, found: Found, picker: Picker) -> None:
        """Gives the picker frames in the order of their times until it has enough."""
        frames = picker.ordered(found.frames)
        place, stride = 0, 1
        while place < len(frames) and not picker.has_enough(frames[place]):
            some = frames[place : place + stride]
            tables = await self._load(run_key, found, some, may_have=picker.may_have)
            await asyncio.to_thread(picker.take, some, tables)
            place += stride
            stride = min(2 * stride, STRIDE_MAX)

    async def _load(
        self,
        run_key: RunKey,
        found: Found,
        frames: Sequence[Frame],
        *,
        may_have: Callable[[pa.Table], bool] | None = None,
    ) -> list[pa.Table]:
        if any(frame.has_later for frame in frames):
            may_have = None  # Lines that came later are compared with all that there were.
        tables = await self._fetcher.load(run_key, found, frames, may_have=may_have)
        for place, frame in enumerate(frames):
            if frame.has_later:
                later = await self._hot.read_span(
                    run_key, frame.writer, frame.first_line, frame.last_line
                )
                tables[place] = merge_lines(tables[place], later)
        return tables


def _added(total: WriterLines | None, part: WriterLines) -> WriterLines:
    if total is None:
        return part
    return WriterLines(
        total.writer,
        total.line_count + part.line_count,
        max(total.last_line, part.last_line),
        min(total.first_time_unix_ms, part.first_time_unix_ms),
        max(total.last_time_unix_ms, part.last_time_unix_ms),
    )


def _count_missing(page: pa.Table, archived: pa.Table) -> int:
    """Returns how many lines of the page the archive has not, or has an older or another text of."""
    there = archived["line"].to_numpy()
    wanted = page["line"].to_numpy()
    spots = np.searchsorted(there, wanted)
    is_there = np.zeros(len(wanted), bool)
    inside = spots < len(there)
    is_there[inside] = there[spots[inside]] == wanted[inside]
    same = page.filter(pa.array(is_there))
    twin = archived.take(pa.array(spots[is_there]))
    newer = twin["sequence"].to_numpy() > same["sequence"].to_numpy()
    equal = np.ones(len(newer), bool)
    for name in LINES.names:
        equal &= pc.equal(twin[name], same[name]).to_numpy()
    return int(len(wanted) - (newer | equal).sum())
