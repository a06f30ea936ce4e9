"""Lines around places: which they are, and how many of them a reply holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runyard_server.storage.archive.format import LINES
from runyard_server.storage.archive.frames import Frame
from runyard_server.storage.archive.picking import line_rows, with_writer
from runyard_server.storage.ports.console import LinePlace, LineRows

Spans: TypeAlias = Mapping[int, Sequence[tuple[int, int]]]
"""First and last line of each stretch, ascending and apart, by writer."""


def spans(places: Sequence[LinePlace], count: int) -> Spans:
    """Returns the stretches of `count` lines around the places; those that touch are one."""
    found: dict[int, list[tuple[int, int]]] = {}
    for writer, line in sorted({(place.writer, place.line) for place in places}):
        own = found.setdefault(writer, [])
        first, last = max(1, line - count), line + count
        if own and first <= own[-1][1] + 1:
            first = own.pop()[0]
        own.append((first, last))
    return found


def touches(frame: Frame, wanted: Spans) -> bool:
    """Returns whether the frame may have lines of the stretches."""
    return any(
        first <= frame.last_line and last >= frame.first_line
        for first, last in wanted.get(frame.writer, ())
    )


def cut(table: pa.Table, writer: int, wanted: Spans) -> pa.Table:
    """Returns the lines of the table that lie in the stretches."""
    lines = table["line"].to_numpy()
    own = np.array(wanted[writer], np.uint64)
    place = np.searchsorted(own[:, 1], lines)
    inside = place < len(own)
    inside[inside] = own[place[inside], 0] <= lines[inside]
    return table.filter(pa.array(inside))


def rows(
    tables: Sequence[tuple[int, pa.Table]], places: Sequence[LinePlace], *, bytes_max: int
) -> LineRows:
    """Returns the lines by time; of those around the places only so many as have that many bytes."""
    every = pa.concat_tables(
        [
            with_writer(LINES.empty_table(), 0),
            *(with_writer(table, writer) for writer, table in tables),
        ]
    )
    every = every.sort_by([(name, "ascending") for name in ("time", "writer", "line")])
    wanted = {(place.writer, place.line) for place in places}
    keys = zip(every["writer"].to_pylist(), every["line"].to_pylist(), strict=True)
    is_match = np.array([key in wanted for key in keys], bool)
    sizes = np.where(is_match, 0, pc.binary_length(every["text"]).to_numpy())
    kept = every.filter(pa.array(is_match | (np.cumsum(sizes, dtype=np.int64) <= bytes_max)))
    return line_rows(kept, has_more=kept.num_rows < every.num_rows)
