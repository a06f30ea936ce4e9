"""Histograms and images of event files, as each kind of writer writes them."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.integration.event_records import EventParser
from runyard.integration.event_values import BIN_COUNT_MAX, Histogram, Images, histogram_of_bins
from tests.unit.sdk.event_messages import (
    bytes_field,
    double_field,
    event,
    number_field,
    tensor,
    varint,
)

DOUBLE, STRING = 2, 7


def doubles(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def shape(*sizes: int) -> bytes:
    return bytes_field(2, b"".join(bytes_field(2, number_field(1, size)) for size in sizes))


def value_of(message: bytes) -> object:
    found = EventParser().parse(memoryview(event(message)))
    return found[0].value if found else None


def old_histogram(
    low: float, high: float, limits: list[float], counts: list[float], *, is_packed: bool = True
) -> bytes:
    """Returns a Summary.Value with a HistogramProto."""
    lists = [(6, limits), (7, counts)]
    if is_packed:
        listed = b"".join(bytes_field(number, doubles(*values)) for number, values in lists)
    else:
        listed = b"".join(
            double_field(number, value) for number, values in lists for value in values
        )
    return bytes_field(1, b"h") + bytes_field(
        5, double_field(1, low) + double_field(2, high) + listed
    )


@pytest.mark.parametrize("is_packed", [True, False])
def test_histograms_of_upper_edges(is_packed: bool) -> None:
    """Of limits that reach beyond all floats the range of the values is kept, and empty bins between are."""
    limits = [-1.0, 0.0, 1.0, 2.0, 1.7976931348623157e308]
    message = old_histogram(-3.0, 5.0, limits, [2, 0, 1, 0, 4], is_packed=is_packed)
    assert value_of(message) == Histogram((2, 0, 1, 0, 4), (-3.0, -1.0, 0.0, 1.0, 2.0, 5.0))
    assert value_of(old_histogram(0.0, 0.0, [1.0], [0.0])) is None
    assert value_of(old_histogram(math.nan, math.inf, [1.0], [3.0])) is None
    assert value_of(old_histogram(0.0, 1.0, [1.0, 2.0], [3.0])) is None


def test_histograms_of_rows() -> None:
    """TensorFlow 2 writes left edge, right edge and count of each bin."""
    rows = doubles(0.0, 1.0, 3.0, 1.0, 2.0, 0.0, 2.0, 3.0, 5.0)
    message = number_field(1, DOUBLE) + shape(3, 3) + bytes_field(4, rows)
    assert value_of(tensor("h", message, "histograms")) == Histogram(
        (3, 0, 5), (0.0, 1.0, 2.0, 3.0)
    )
    empty = number_field(1, DOUBLE) + shape(0, 3)
    assert value_of(tensor("h", empty, "histograms")) is None
    of_one_value = number_field(1, DOUBLE) + shape(1, 3) + bytes_field(6, doubles(2.0, 2.0, 7.0))
    found = value_of(tensor("h", of_one_value, "histograms"))
    assert isinstance(found, Histogram) and (found.counts, found.edges[0]) == ((7,), 2.0)


bins_strategy = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.floats(0, 10), st.floats(0, 100), st.integers(1, 1000)),
    min_size=1,
    max_size=1500,
)


@given(bins_strategy)
def test_bins_become_few_and_ascend(drawn: list[tuple[float, float, float, int]]) -> None:
    """However many bins there are, with gaps, of no width: no value is lost, and edges ascend."""
    at, bins = drawn[0][0], []
    for _, gap, width, count in drawn:
        bins.append((at + gap, at + gap + width, float(count)))
        at += gap + width
    found = histogram_of_bins(bins)
    assert found is not None
    assert sum(found.counts) == sum(count for _, _, count in bins)
    assert len(found.counts) <= BIN_COUNT_MAX
    assert len(found.edges) == len(found.counts) + 1
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False))
    assert found.edges[0] == bins[0][0] and found.edges[-1] >= bins[-1][1]


def test_images() -> None:
    """The encoded bytes of one image, or of each of several, are taken as they are."""
    old = bytes_field(1, b"i") + bytes_field(
        4, number_field(1, 2) + number_field(2, 3) + bytes_field(4, b"PNG")
    )
    assert value_of(old) == Images((b"PNG",))
    texts = b"".join(bytes_field(8, text) for text in (b"3", b"2", b"PNG1", b"PNG2"))
    message = number_field(1, STRING) + shape(4) + texts
    assert value_of(tensor("i", message, "images")) == Images((b"PNG1", b"PNG2"))
    assert value_of(tensor("t", message, "text")) is None


def test_tensors_of_equal_numbers_are_shortened() -> None:
    """Where a writer left out equal values at the end, they are there; a huge tensor is not read."""
    rows = (
        number_field(1, DOUBLE)
        + shape(2, 3)
        + bytes_field(6, doubles(0.0, 2.0, 2.0, 2.0, 3.0, 3.0))
    )
    shortened = (
        number_field(1, DOUBLE) + shape(2, 3) + bytes_field(6, doubles(0.0, 2.0, 2.0, 2.0, 3.0))
    )
    found = value_of(tensor("h", rows, "histograms"))
    assert (
        value_of(tensor("h", shortened, "histograms"))
        == found
        == Histogram((2, 3), (0.0, 2.0, 3.0))
    )
    huge = number_field(1, DOUBLE) + shape(2**40) + bytes_field(6, doubles(1.0))
    assert value_of(tensor("s", huge, "scalars")) is None
    assert value_of(bytes_field(1, b"x") + varint(3 << 3 | 2) + varint(0)) is None
