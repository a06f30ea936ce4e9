"""Columns of points on their way from a batch to a block, and back from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from runyard_server.domain.console import ConsoleBlock
from runyard_server.domain.media import MediaValue
from runyard_server.domain.run import RunKey

Int64Column: TypeAlias = NDArray[np.int64]
UInt64Column: TypeAlias = NDArray[np.uint64]
Float64Column: TypeAlias = NDArray[np.float64]

METRIC_NAME_BYTES_MAX = 512
WRITER_MAX = (1 << 24) - 1
SEQUENCE_MAX = (1 << 40) - 1
_METRIC_IDS_CACHED = 65_536
_NS_PER_MS = 1_000_000
_TIME_UNIX_MS_MIN = -(2**63 // _NS_PER_MS)


class Journal(IntEnum):
    """Which of a writer's journals a batch is of; values are those of ingest.v1.Journal."""

    RUN = 1
    CONSOLE = 2
    SYSTEM = 3


@dataclass(frozen=True, slots=True)
class PointTable:
    """Holds n rows of m metrics as columns; see points.v1.PointTable."""

    metric_indexes: tuple[int, ...]
    steps: Int64Column
    times_unix_ns: Int64Column
    sequences: UInt64Column
    values: Float64Column
    """n * m values, metric after metric."""


@dataclass(frozen=True, slots=True)
class SummaryChange:
    """Sets one key of a run's summary, or removes it (value_json empty)."""

    sequence: int
    key: str
    value_json: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What a writer sends at once: the records first_sequence to last_sequence of one writer of one run."""

    run_key: RunKey
    writer: int
    first_sequence: int
    last_sequence: int
    metric_names: tuple[str, ...]
    tables: tuple[PointTable, ...]
    summary_changes: tuple[SummaryChange, ...] = ()
    journal: Journal = Journal.RUN
    console_blocks: tuple[ConsoleBlock, ...] = ()
    """Of a batch of the console's journal, which holds nothing else."""
    media_values: tuple[MediaValue, ...] = ()
    """Of a batch of the run's own journal."""

    @property
    def point_count(self) -> int:
        """Returns how many points all tables hold."""
        return sum(table.values.size for table in self.tables)

    @property
    def line_count(self) -> int:
        """Returns how many lines of the console it holds."""
        return sum(block.line_count for block in self.console_blocks)

    @property
    def row_count(self) -> int:
        """Returns how many rows it becomes in the store, about: points, lines and media values."""
        return self.point_count + self.line_count + len(self.media_values)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A series of a batch that was refused for good; see ingest.v1.Rejection."""

    metric: str
    reason: str
    message: str
    points: int


def floor_to_ms(times_unix_ns: Int64Column) -> Int64Column:
    """Returns times in ms, rounded down, as they are stored.

    Below the first instants of 64-bit nanoseconds lies no whole millisecond that they could hold: these are rounded
    up, so that what is read back never wraps.
    """
    return np.maximum(times_unix_ns // _NS_PER_MS, _TIME_UNIX_MS_MIN)


@lru_cache(maxsize=_METRIC_IDS_CACHED)
def metric_id(name: str) -> int:
    """Returns the 64-bit id of a metric name: BLAKE2b with a digest of 8 bytes over the UTF-8, little-endian.

    The same on every replica and for ever: ids are stored. Two of a million names of one run share an id with a
    probability of 3e-8; 64 bits are what keeps the key of a point small.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def metric_ids(names: Sequence[str]) -> UInt64Column:
    """Returns the ids of the names, in their order."""
    return np.fromiter(map(metric_id, names), np.uint64, len(names))
