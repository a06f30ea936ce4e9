"""What an event file holds for a tag at a step: a number, a histogram, or images."""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Sequence
from typing import Any

from runyard.integration.event_tensors import Tensor
from runyard.integration.event_wire import BYTES, FIXED64, fields

BIN_COUNT_MAX = 512

# HistogramProto and Summary.Image of summary.proto
_MIN, _MAX, _LIMITS, _COUNTS = 1, 2, 6, 7
_ENCODED_IMAGE = 4


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts between edges, of which there is one more; edges ascend and are finite."""

    counts: tuple[float, ...]
    edges: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Images:
    """Encoded images."""

    encoded: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class Found:
    """A value that was written for a tag at a step."""

    tag: str
    step: int
    time_unix_ns: int
    value: float | Histogram | Images


def histogram_of_message(message: memoryview) -> Histogram | None:
    """Returns a HistogramProto, as TensorFlow 1, torch and tensorboardX write it; None for an empty one."""
    ends: dict[int, float] = {}
    lists: dict[int, list[float]] = {_LIMITS: [], _COUNTS: []}
    for number, kind, value in fields(message):
        if kind == FIXED64 and number in (_MIN, _MAX):
            (ends[number],) = struct.unpack("<d", value)
        elif number in lists and kind in (FIXED64, BYTES):
            lists[number] += struct.unpack(f"<{len(value) // 8}d", value[: len(value) & ~7])
    low, high = ends.get(_MIN, 0.0), ends.get(_MAX, 0.0)
    if (
        len(lists[_LIMITS]) != len(lists[_COUNTS])
        or not math.isfinite(low)
        or not math.isfinite(high)
    ):
        return None
    # Limits are upper edges; the first bin begins, and the last one ends, beyond all values.
    bins = []
    before = -math.inf
    for limit, count in zip(lists[_LIMITS], lists[_COUNTS]):
        if count > 0:
            bins.append((max(before, low), min(limit, high), count))
        before = limit
    return histogram_of_bins(bins)


def histogram_of_tensor(tensor: Tensor) -> Histogram | None:
    """Returns the histogram of TensorFlow 2: rows of left edge, right edge and count; None for an empty one."""
    if len(tensor.shape) != 2 or tensor.shape[1] != 3:
        return None
    numbers = tensor.numbers
    rows = [numbers[place : place + 3] for place in range(0, len(numbers) - 2, 3)]
    return histogram_of_bins([(left, right, count) for left, right, count in rows if count > 0])


def histogram_of_bins(bins: Sequence[tuple[float, float, float]]) -> Histogram | None:
    """Returns bins that ascend, gaps between them filled, as few as may be; None if there are none."""
    edges: list[float] = []
    counts: list[float] = []
    for left, right, count in bins:
        if not all(map(math.isfinite, (left, right, count))):
            return None
        if edges and left > edges[-1]:
            counts.append(0.0)
            edges.append(left)
        elif not edges:
            edges.append(left)
        if right > edges[-1]:
            counts.append(count)
            edges.append(right)
        elif counts:  # a bin of no width belongs to the one that ends there
            counts[-1] += count
        else:
            counts.append(count)
            edges.append(math.nextafter(right, math.inf))
    while len(counts) > BIN_COUNT_MAX:
        odd = counts[-1:] if len(counts) % 2 else []
        counts = [a + b for a, b in zip(counts[::2], counts[1::2])] + odd
        edges = edges[:-1][::2] + edges[-1:]
    return Histogram(tuple(counts), tuple(edges)) if counts else None


def images_of_message(message: memoryview) -> Images | None:
    """Returns the image of a Summary.Image; None if it is empty."""
    for number, kind, value in fields(message):
        if number == _ENCODED_IMAGE and kind == BYTES and len(value):
            return Images((bytes(value),))
    return None


def images_of_tensor(tensor: Tensor) -> Images | None:
    """Returns the images of TensorFlow 2: width and height as text, and one image each behind them."""
    return Images(tensor.texts[2:]) if len(tensor.texts) > 2 else None


def as_media(value: float | Histogram | Images) -> Any:
    """Returns what `log` takes for the value."""
    if isinstance(value, Histogram):
        from runyard.media.histogram import Histogram as Logged

        return Logged(np_histogram=(value.counts, value.edges))
    if isinstance(value, Images):
        from runyard.media.image import Image

        return [Image(encoded) for encoded in value.encoded]
    return value
