"""Rows of a journal as columns: what a batch is made of. No row becomes a Python object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROW_HEAD_WORDS = 2
"""step and time_unix_ns, before the values."""


class Event(NamedTuple):
    """A record that is not a row."""

    sequence: int
    kind: int
    payload: bytes


@dataclasses.dataclass(frozen=True)
class RowTable:
    """n rows of one key set: `words` is n x (2 + m) of 8 bytes each: step, time, m values, as they lie in the journal."""

    names: tuple[str, ...]
    sequences: NDArray[np.uint64]
    words: NDArray[np.uint64]

    @property
    def point_count(self) -> int:
        """Returns n * m."""
        return len(self.sequences) * len(self.names)

    def last_step(self) -> int:
        """Returns the largest step."""
        return int(self.words[:, 0].view("<i8").max())

    def within(self, first: int, last: int) -> RowTable | None:
        """Returns the rows with sequences of the closed range; None if there are none."""
        start = int(np.searchsorted(self.sequences, np.uint64(first), "left"))
        stop = int(np.searchsorted(self.sequences, np.uint64(last), "right"))
        if start >= stop:
            return None
        return RowTable(self.names, self.sequences[start:stop], self.words[start:stop])

    def steps_bytes(self) -> bytes:
        """Returns the steps as packed sfixed64."""
        return self.words[:, 0].tobytes()

    def times_bytes(self) -> bytes:
        """Returns the times as packed sfixed64."""
        return self.words[:, 1].tobytes()

    def sequences_bytes(self) -> bytes:
        """Returns the sequences as packed fixed64."""
        return self.sequences.astype("<u8", copy=False).tobytes()

    def values_bytes(self) -> bytes:
        """Returns the values as packed doubles, metric after metric."""
        return self.words[:, ROW_HEAD_WORDS:].T.tobytes()


@dataclasses.dataclass(frozen=True)
class Piece:
    """A gapless range of a journal's records: what one batch carries."""

    first_sequence: int
    last_sequence: int
    tables: tuple[RowTable, ...]
    events: tuple[Event, ...]
    size_bytes: int
    """About the size of the batch on the wire."""

    @property
    def record_count(self) -> int:
        """Returns how many records it covers."""
        return self.last_sequence - self.first_sequence + 1

    def last_step(self) -> int | None:
        """Returns the largest step of its rows; None without rows."""
        return max((table.last_step() for table in self.tables), default=None)

    def halves(self) -> tuple[Piece, Piece]:
        """Returns the two halves of a piece of at least two records."""
        assert self.record_count >= 2
        first, last = self.first_sequence, self.last_sequence
        middle = (first + last) // 2
        return self.within(first, middle), self.within(middle + 1, last)

    def within(self, first: int, last: int) -> Piece:
        """Returns the part of it in the closed range."""
        tables = [table.within(first, last) for table in self.tables]
        events = tuple(event for event in self.events if first <= event.sequence <= last)
        share = (last - first + 1) / self.record_count
        kept = tuple(table for table in tables if table is not None)
        return Piece(first, last, kept, events, max(1, int(self.size_bytes * share)))


class RowGatherer:
    """Collects where the rows of a buffer lie, then takes them out as tables, one for each key set."""

    def __init__(self) -> None:
        self._runs: dict[int, list[tuple[int, int, int]]] = {}
        self._names: dict[int, tuple[str, ...]] = {}

    def add(self, names: tuple[str, ...], schema: int, position: int, sequence: int, count: int) -> None:  # fmt: skip
        """Takes note of `count` rows that lie one behind the other, the first at the byte `position`."""
        self._names[schema] = names
        self._runs.setdefault(schema, []).append((position, sequence, count))

    def tables(self, buffer: bytes, frame_header_words: int) -> tuple[RowTable, ...]:
        """Returns the rows; views of the buffer where they lie together, copies where they are scattered."""
        words = np.frombuffer(buffer, "<u8", count=len(buffer) // 8)
        made = []
        for schema, runs in self._runs.items():
            names = self._names[schema]
            width = frame_header_words + ROW_HEAD_WORDS + len(names)
            if len(runs) == 1:
                position, sequence, count = runs[0]
                start = position // 8
                block = words[start : start + count * width].reshape(count, width)
                sequences = np.arange(sequence, sequence + count, dtype="<u8")
                made.append(RowTable(names, sequences, block[:, frame_header_words:]))
            else:
                made.append(_gathered(words, names, runs, frame_header_words, width))
        return tuple(made)


def _gathered(
    words: NDArray[Any],
    names: tuple[str, ...],
    runs: Sequence[tuple[int, int, int]],
    head: int,
    width: int,
) -> RowTable:
    spec = np.array(runs, dtype=np.int64)
    counts = spec[:, 2]
    total = int(counts.sum())
    # 0, 1, ... within each run: a count over all, less where the run began.
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(spec[:, 0] // 8, counts) + within * width
    sequences = (np.repeat(spec[:, 1], counts) + within).astype("<u8")
    return RowTable(names, sequences, words[starts[:, None] + np.arange(head, width)])
