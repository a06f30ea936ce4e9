"""What a run logs besides numbers: images, tables, histograms and the like, on their way to the store and back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ITEMS_BYTES_MAX = 1 << 20
BINS_MAX = 512
_VALUE_BYTES = 256
"""What a value takes besides its items and bins, about."""


class MediaKind(IntEnum):
    """What a media value is; values are those of ingest.v1.MediaKind, and are stored."""

    IMAGE = 1
    AUDIO = 2
    VIDEO = 3
    HTML = 4
    TABLE = 5
    HISTOGRAM = 6
    PLOT = 7


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie in each bin; see ingest.v1.Histogram."""

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    non_finite_count: int = 0


NO_HISTOGRAM = Histogram(np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True)
class MediaValue:
    """What was logged under one name at one step; see ingest.v1.MediaValue."""

    sequence: int
    name: str
    step: int
    time_unix_ns: int
    kind: int
    items_json: str = ""
    """Extended JSON array of objects; of a histogram empty."""
    histogram: Histogram = NO_HISTOGRAM

    @property
    def size_bytes(self) -> int:
        """Returns about what the value takes in memory and on the wire."""
        bins = self.histogram.edges.nbytes + self.histogram.counts.nbytes
        return _VALUE_BYTES + len(self.name) + len(self.items_json) + bins
