"""Picks a page of lines out of frames that come by time: the first that are wanted, or the last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runyard_server.storage.archive.filtering import select, text_test
from runyard_server.storage.archive.format import LINES
from runyard_server.storage.archive.frames import Frame
from runyard_server.storage.ports.console import LineFilter, LinePlace, LineRows

_ORDER = ("time", "writer", "line")


class Picker:
    """Holds the best lines so far, one more than the page may have."""

    def __init__(
        self,
        where: LineFilter,
        *,
        after: LinePlace | None,
        is_newest_first: bool,
        limit: int,
        bytes_max: int,
    ) -> None:
        self._where = where
        self._after = after
        self._is_newest_first = is_newest_first
        self._limit = limit
        self._bytes_max = bytes_max
        self.may_have = text_test(where)
        """Tells whether a row group may have lines that are wanted."""
        self._kept = with_writer(LINES.empty_table(), 0)

    def ordered(self, frames: Sequence[Frame]) -> list[Frame]:
        """Returns the frames that may have lines of the page, those first whose lines may come first."""
        where, after = self._where, self._after
        low = [where.first_time_unix_ms]
        high = [where.last_time_unix_ms]
        if after is not None:
            (high if self._is_newest_first else low).append(after.time_unix_ms)
        lowest = max((one for one in low if one is not None), default=None)
        highest = min((one for one in high if one is not None), default=None)
        wanted = [
            frame
            for frame in frames
            if (not where.writers or frame.writer in where.writers)
            and (lowest is None or frame.high_ms >= lowest)
            and (highest is None or frame.low_ms <= highest)
        ]
        if self._is_newest_first:
            return sorted(wanted, key=lambda frame: (-frame.high_ms, -frame.last_line))
        return sorted(wanted, key=lambda frame: (frame.low_ms, frame.first_line))

    def has_enough(self, following: Frame) -> bool:
        """Returns whether no line of that frame or later ones can be in the page."""
        if self._kept.num_rows <= self._limit:
            return False
        last = int(self._kept["time"][-1].as_py())
        return following.high_ms < last if self._is_newest_first else following.low_ms > last

    def take(self, frames: Sequence[Frame], tables: Sequence[pa.Table]) -> None:
        """Adds what is wanted of the frames' lines."""
        found = [self._kept]
        for frame, table in zip(frames, tables, strict=True):
            chosen = select(
                table,
                frame.writer,
                self._where,
                after=self._after,
                is_newest_first=self._is_newest_first,
            )
            if chosen.num_rows:
                found.append(with_writer(chosen, frame.writer))
        if len(found) > 1:
            direction = "descending" if self._is_newest_first else "ascending"
            every = pa.concat_tables(found)
            order = pc.sort_indices(every, sort_keys=[(name, direction) for name in _ORDER])
            self._kept = every.take(order[: self._limit + 1])

    def rows(self) -> LineRows:
        """Returns the page, ascending."""
        kept = self._kept.slice(0, self._limit)
        sizes = pc.binary_length(kept["text"]).to_numpy()
        fitting = int(np.searchsorted(np.cumsum(sizes, dtype=np.int64), self._bytes_max, "right"))
        page = kept.slice(0, max(1, fitting))
        if self._is_newest_first:
            page = page.take(pa.array(np.arange(page.num_rows)[::-1].copy()))
        return line_rows(page, has_more=page.num_rows < self._kept.num_rows)


def with_writer(table: pa.Table, writer: int) -> pa.Table:
    """Returns the lines with a column that says whose they are."""
    return table.append_column("writer", pa.array(np.full(table.num_rows, writer, np.uint32)))


def line_rows(table: pa.Table, *, has_more: bool) -> LineRows:
    """Returns the lines as the port has them."""
    return LineRows(
        writers=table["writer"].to_pylist(),
        lines=table["line"].to_pylist(),
        times_unix_ms=table["time"].to_pylist(),
        streams=table["stream"].to_pylist(),
        texts=table["text"].to_pylist(),
        has_more=has_more,
    )
