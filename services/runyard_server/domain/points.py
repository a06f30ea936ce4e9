"""Columns of points on their way from a batch to a block, and back from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from runyard_server.domain.run import RunKey

Int64Column: TypeAlias = NDArray[np.int64]
UInt64Column: TypeAlias = NDArray[np.uint64]
Float64Column: TypeAlias = NDArray[np.float64]

METRIC_NAME_BYTES_MAX = 512


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
