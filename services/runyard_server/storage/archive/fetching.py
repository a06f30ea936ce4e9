"""Gets parts of archives from where they lie, and remembers their indexes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from runyard_server.domain.console import ConsoleArchive
from runyard_server.domain.errors import Internal
from runyard_server.domain.run import RunKey
from runyard_server.storage.archive.format import (
    FOOTER_GUESS_BYTES,
    LINES,
    ArchiveDamaged,
    ArchiveIndex,
    footer_bytes,
    read_groups,
    read_index,
)
from runyard_server.storage.archive.frames import Frame, make_frames
from runyard_server.storage.archive.hot import LineExtent
from runyard_server.storage.ports.console import ArchiveSource, WriterLines

LISTS_MAX: Final = 1_024
GROUPS_MAX: Final = 30_000
"""Row groups whose places are remembered, about 2 kB each."""
READS_AT_ONCE: Final = 4
READ_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KnownArchive:
    """An archive and its index."""

    archive: ConsoleArchive
    index: ArchiveIndex

    def group_lines(self, group: int, writer: int) -> WriterLines:
        """Returns how many lines a row group has, and from when to when."""
        index = self.index
        return WriterLines(
            writer,
            int(index.line_counts[group]),
            int(index.last_lines[group]),
            int(index.low_ms[group]),
            int(index.high_ms[group]),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a run."""

    archives: Mapping[int, KnownArchive]
    frames: list[Frame]
    dropped_block: int


class ArchiveFetcher:
    """Asks an ArchiveSource; holds the indexes that were read last."""

    def __init__(self, source: ArchiveSource) -> None:
        self._source = source
        self._lists: OrderedDict[RunKey, tuple[int, list[ConsoleArchive]]] = OrderedDict()
        self._indexes: OrderedDict[str, ArchiveIndex] = OrderedDict()
        self._group_count = 0
        self._reading = asyncio.Semaphore(READS_AT_ONCE)

    async def find(
        self, run_key: RunKey, extents: Sequence[LineExtent], dropped_block: int
    ) -> Found:
        """Returns the archives and frames of a run. Raises Unavailable; NotFound if an archive is replaced meanwhile."""
        archives = await self._list(run_key, dropped_block)
        indexes = await asyncio.gather(*(self._index(run_key, one) for one in archives))
        known = {
            archive.writer: KnownArchive(archive, index)
            for archive, index in zip(archives, indexes, strict=True)
        }
        frames = await asyncio.to_thread(
            make_frames, {writer: one.index for writer, one in known.items()}, extents
        )
        return Found(known, frames, dropped_block)

    def forget(self, run_key: RunKey) -> None:
        """Has the archives of a run asked for anew."""
        self._lists.pop(run_key, None)

    async def load(
        self,
        run_key: RunKey,
        found: Found,
        frames: Sequence[Frame],
        *,
        may_have: Callable[[pa.Table], bool] | None = None,
    ) -> list[pa.Table]:
        """Returns what the archives have of each frame; neighbours are read at once. See read_groups for `may_have`."""
        stretches: list[list[int]] = []
        for place, frame in enumerate(frames):
            if frame.group < 0:
                continue
            index = found.archives[frame.writer].index
            last = frames[stretches[-1][-1]] if stretches else None
            if (
                last is not None
                and last.writer == frame.writer
                and abs(last.group - frame.group) == 1
                and abs(index.ends[frame.group] - index.starts[frames[stretches[-1][0]].group])
                < READ_BYTES_MAX
            ):
                stretches[-1].append(place)
            else:
                stretches.append([place])
        tables = [LINES.empty_table()] * len(frames)
        parts = await asyncio.gather(
            *(
                self._load_stretch(run_key, found, [frames[place] for place in places], may_have)
                for places in stretches
            )
        )
        for places, part in zip(stretches, parts, strict=True):
            for place, table in zip(places, part, strict=True):
                tables[place] = table
        return tables

    async def _load_stretch(
        self,
        run_key: RunKey,
        found: Found,
        frames: Sequence[Frame],
        may_have: Callable[[pa.Table], bool] | None,
    ) -> list[pa.Table]:
        known = found.archives[frames[0].writer]
        groups = [frame.group for frame in frames]
        start = int(known.index.starts[min(groups)])
        end = int(known.index.ends[max(groups)])
        async with self._reading:
            content = await self._source.read_console_archive(
                run_key, known.archive.object_key, offset=start, size_bytes=end - start
            )
            try:
                return await asyncio.to_thread(
                    read_groups, known.index, groups, start, content, may_have=may_have
                )
            except ArchiveDamaged as error:
                raise _damaged(known.archive, error) from error

    async def _list(self, run_key: RunKey, dropped_block: int) -> list[ConsoleArchive]:
        """Returns the archives; those remembered, if no lines were dropped since. Block 0 asks in any case."""
        known = self._lists.get(run_key)
        if known is not None and dropped_block and known[0] == dropped_block:
            self._lists.move_to_end(run_key)
            return known[1]
        archives = await self._source.list_console_archives(run_key)
        if dropped_block:
            self._lists[run_key] = (dropped_block, archives)
            while len(self._lists) > LISTS_MAX:
                self._lists.popitem(last=False)
        return archives

    async def _index(self, run_key: RunKey, archive: ConsoleArchive) -> ArchiveIndex:
        index = self._indexes.get(archive.object_key)
        if index is not None:
            self._indexes.move_to_end(archive.object_key)
            return index
        async with self._reading:
            tail = await self._tail(run_key, archive, FOOTER_GUESS_BYTES)
            try:
                needed = footer_bytes(tail)
                if needed > len(tail):
                    tail = await self._tail(run_key, archive, needed)
                index = await asyncio.to_thread(read_index, tail)
            except ArchiveDamaged as error:
                raise _damaged(archive, error) from error
        if archive.object_key in self._indexes:  # another read was faster
            return self._indexes[archive.object_key]
        self._indexes[archive.object_key] = index
        self._group_count += len(index.starts)
        while self._group_count > GROUPS_MAX and len(self._indexes) > 1:
            _, oldest = self._indexes.popitem(last=False)
            self._group_count -= len(oldest.starts)
        return index

    async def _tail(self, run_key: RunKey, archive: ConsoleArchive, size_bytes: int) -> bytes:
        size_bytes = min(size_bytes, archive.size_bytes)
        return await self._source.read_console_archive(
            run_key,
            archive.object_key,
            offset=archive.size_bytes - size_bytes,
            size_bytes=size_bytes,
        )


def _damaged(archive: ConsoleArchive, error: ArchiveDamaged) -> Internal:
    return Internal(
        "INTERNAL",
        f"the archive of writer {archive.writer} is damaged, object {archive.object_key}: {error}",
        metadata={"object": archive.object_key},
    )
