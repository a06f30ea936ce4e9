"""Histogram: how values are spread over bins."""

from __future__ import annotations

import math
import sys
from typing import Any

from runyard.errors import InvalidArgument
from runyard.media.libraries import array_of, numpy
from runyard.media.value import Item, Media

WHAT = "Histogram"
BIN_COUNT_MAX = 512
LARGE = sys.float_info.max / 2**11
"""Beyond this, numbers times the most bins and a little overflow."""


class Histogram(Media):
    """How values are spread: counted into `num_bins` bins of one width, or as numpy.histogram gave them.

    A bin holds its lower edge and not its upper one, the last bin both. NaN and infinities are counted apart.
    """

    kind = "histogram"
    is_single = True
    MAX_LENGTH = BIN_COUNT_MAX

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        if (sequence is None) == (np_histogram is None):
            raise InvalidArgument(f"{WHAT} takes either sequence or np_histogram")
        self.non_finite_count = 0
        if np_histogram is not None:
            self.histogram, self.bins = _checked(np_histogram)
            return
        if type(num_bins) is not int or not 1 <= num_bins <= BIN_COUNT_MAX:
            raise InvalidArgument(
                f"{WHAT}: num_bins {num_bins!r:.80} is no integer from 1 to {BIN_COUNT_MAX}"
            )
        self.histogram, self.bins, self.non_finite_count = _counted(sequence, num_bins)

    def item(self) -> Item:
        """Returns edges, counts, and how many values are in no bin."""
        return {
            "edges": list(self.bins),
            "counts": list(self.histogram),
            "non_finite_count": self.non_finite_count,
        }


def _counted(sequence: Any, num_bins: int) -> tuple[list[float], list[float], int]:
    np = numpy(WHAT)
    values = array_of(_listed(sequence), WHAT).ravel()
    finite = values[np.isfinite(values)].astype(np.float64)
    # Long doubles and big integers may be finite and beyond 64-bit floats.
    finite = finite[np.isfinite(finite)]
    non_finite_count = int(values.size - finite.size)
    # Near the largest float, NumPy's own arithmetic overflows; at a small part of the scale it does not.
    scale = 2.0**-12 if finite.size and float(np.abs(finite).max()) > LARGE else 1.0
    while True:
        try:
            counts, edges = np.histogram(finite * scale, bins=num_bins)
        except ValueError:  # the values lie so close that floats do not tell so many bins apart
            counts, edges = np.zeros(0), np.zeros(1)
        edges = edges / scale
        if scale != 1.0:  # tiny values beside large ones were lost in it
            edges[0], edges[-1] = min(edges[0], finite.min()), max(edges[-1], finite.max())
        if counts.size and np.isfinite(edges).all() and (edges[1:] > edges[:-1]).all():
            return counts.astype(float).tolist(), edges.tolist(), non_finite_count
        if num_bins == 1:
            return _one_bin(finite, non_finite_count)
        num_bins //= 2


def _one_bin(finite: Any, non_finite_count: int) -> tuple[list[float], list[float], int]:
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low = max(-sys.float_info.max, math.nextafter(low, -math.inf))
        high = min(sys.float_info.max, math.nextafter(high, math.inf))
    return [float(finite.size)], [low, high], non_finite_count


def _listed(sequence: Any) -> Any:
    """Returns what an array can be made of: of a generator or set a list."""
    if hasattr(sequence, "__array__") or hasattr(sequence, "shape") or isinstance(sequence, list):
        return sequence
    if isinstance(sequence, (str, bytes)) or not hasattr(sequence, "__iter__"):
        raise InvalidArgument(f"{WHAT}: {sequence!r:.80} is no sequence of numbers")
    return list(sequence)


def _checked(np_histogram: Any) -> tuple[list[float], list[float]]:
    """Returns (counts, edges) as floats; raises InvalidArgument naming what is wrong."""
    try:
        counts_given, edges_given = np_histogram
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"{WHAT}: np_histogram is the pair (counts, edges) that numpy.histogram returns"
        ) from None
    counts = [float(count) for count in array_of(counts_given, f"{WHAT}: counts").ravel()]
    edges = [float(edge) for edge in array_of(edges_given, f"{WHAT}: edges").ravel()]
    if not 1 <= len(counts) <= BIN_COUNT_MAX or len(edges) != len(counts) + 1:
        raise InvalidArgument(
            f"{WHAT}: {len(counts)} counts and {len(edges)} edges; there are 1 to {BIN_COUNT_MAX} bins and one edge more"
        )
    if not all(math.isfinite(count) and count >= 0 for count in counts):
        raise InvalidArgument(f"{WHAT}: a count is negative or not finite")
    if not all(map(math.isfinite, edges)) or any(a >= b for a, b in zip(edges, edges[1:])):
        raise InvalidArgument(f"{WHAT}: edges are not finite and ascending")
    return counts, edges
