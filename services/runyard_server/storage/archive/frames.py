"""The stretches of lines that a dropped log is read in: row groups of archives, joined with lines that came later. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from runyard_server.storage.archive.format import ArchiveIndex
from runyard_server.storage.archive.hot import LineExtent


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines first_line to last_line of one writer; times are bounds, and may be wider than what is there."""

    writer: int
    first_line: int
    last_line: int
    low_ms: int
    high_ms: int
    group: int = -1
    """Its row group in the writer's archive; -1: none, all its lines came later."""
    has_later: bool = False
    """Whether lines of it may have come since the archive was made."""


def make_frames(archives: Mapping[int, ArchiveIndex], extents: Sequence[LineExtent]) -> list[Frame]:
    """Returns the frames of all writers, by writer and line, without overlap; extents come by writer and line."""
    later: dict[int, list[LineExtent]] = {}
    for extent in extents:
        later.setdefault(extent.writer, []).append(extent)
    frames: list[Frame] = []
    for writer in sorted(archives.keys() | later.keys()):
        index = archives.get(writer)
        frames += _writer_frames(writer, index, later.get(writer, []))
    return frames


def _writer_frames(
    writer: int, index: ArchiveIndex | None, extents: Sequence[LineExtent]
) -> list[Frame]:
    frames: list[Frame] = []
    count = 0 if index is None else len(index.starts)
    archived_to = int(index.last_lines[-1]) if index is not None and count else 0
    for group in range(count):
        assert index is not None
        # Lines that the archive lacks belong to the row group before them, those before the first one to the first.
        first = int(index.first_lines[group]) if group else 1
        last = int(index.first_lines[group + 1]) - 1 if group + 1 < count else archived_to
        frames.append(
            _widened(
                Frame(
                    writer,
                    first,
                    last,
                    int(index.low_ms[group]),
                    int(index.high_ms[group]),
                    group=group,
                ),
                extents,
            )
        )
    for extent in extents:
        if extent.last_line > archived_to:
            first = max(extent.first_line, archived_to + 1)
            frames.append(
                Frame(writer, first, extent.last_line, extent.low_ms, extent.high_ms, -1, True)
            )
    return frames


def _widened(frame: Frame, extents: Sequence[LineExtent]) -> Frame:
    begin = bisect.bisect_left(extents, frame.first_line, key=lambda one: one.last_line)
    end = bisect.bisect_right(extents, frame.last_line, key=lambda one: one.first_line)
    touching = extents[begin:end]
    if not touching:
        return frame
    return Frame(
        frame.writer,
        frame.first_line,
        frame.last_line,
        min(frame.low_ms, *(one.low_ms for one in touching)),
        max(frame.high_ms, *(one.high_ms for one in touching)),
        frame.group,
        True,
    )


def merge_lines(archived: pa.Table, later: pa.Table) -> pa.Table:
    """Returns the lines of both by number; of a line that both have the one with the higher sequence, else the later one."""
    if not later.num_rows:
        return archived
    if not archived.num_rows:
        return later
    both = pa.concat_tables([archived, later]).combine_chunks()
    lines = both["line"].to_numpy()
    order = np.lexsort((np.arange(len(lines)), both["sequence"].to_numpy(), lines))
    ordered = lines[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    return both.take(pa.array(order[is_last]))
