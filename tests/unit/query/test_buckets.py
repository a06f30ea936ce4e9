"""Buckets by their definition: extremes and ends kept, bounded, the same whatever the order."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.buckets import bucket_shift
from runyard_server.storage.memory.buckets import make_buckets
from runyard_server.storage.ports.points import SeriesPoints

STEPS = st.one_of(st.integers(-50, 500), st.integers(-(2**63), 2**63 - 1))


@st.composite
def series(draw: st.DrawFn) -> SeriesPoints:
    places = draw(
        st.lists(st.tuples(STEPS, st.integers(0, 2)), min_size=1, max_size=80, unique=True)
    )
    values = draw(st.lists(st.floats(), min_size=len(places), max_size=len(places)))
    return SeriesPoints(
        steps=np.array([step for step, _ in places], np.int64),
        times_unix_ns=np.arange(len(places)),
        values=np.array(values, np.float64),
        writers=np.array([writer for _, writer in places], np.uint64),
    )


@given(STEPS, STEPS, st.integers(2, 10_000))
def test_the_width_is_the_smallest_that_fits(one: int, other: int, count_max: int) -> None:
    """At most count_max buckets, and half the width would give more."""
    first, last = min(one, other), max(one, other)
    shift = bucket_shift(first, last, count_max=count_max)
    assert (last >> shift) - (first >> shift) + 1 <= count_max
    if shift:
        assert (last >> shift - 1) - (first >> shift - 1) + 1 > count_max


@given(series(), st.integers(2, 40))
def test_extremes_ends_and_counts_are_kept(points: SeriesPoints, count_max: int) -> None:
    """No finite extreme is lost, the first and last step stand, every point is counted once."""
    buckets = make_buckets(points, bucket_count_max=count_max)
    finite = points.values[np.isfinite(points.values)]
    assert len(buckets.counts) <= max(count_max, 1)
    assert len(points.steps) == buckets.counts.sum()
    assert points.steps.min() == buckets.first_steps[0]
    assert points.steps.max() == buckets.last_steps[-1]
    assert (finite.min() if len(finite) else math.inf) == np.nanmin(np.append(buckets.lows, np.inf))
    assert (finite.max() if len(finite) else -math.inf) == np.nanmax(
        np.append(buckets.highs, -np.inf)
    )
    non_finite = (
        buckets.nan_counts + buckets.positive_infinity_counts + buckets.negative_infinity_counts
    )
    assert len(points.values) - len(finite) == non_finite.sum()
    has_mean = ~np.isnan(buckets.means)
    assert (buckets.lows[has_mean] <= buckets.means[has_mean]).all()
    assert (buckets.means[has_mean] <= buckets.highs[has_mean]).all()


@given(series(), st.integers(2, 40), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    points: SeriesPoints, count_max: int, chance: object
) -> None:
    """Equal points give equal buckets, bit by bit."""
    order = list(range(len(points.steps)))
    chance.shuffle(order)  # type: ignore[attr-defined]  # random.Random
    shuffled = SeriesPoints(
        points.steps[order], points.times_unix_ns[order], points.values[order], points.writers[order]
    )  # fmt: skip
    expected = make_buckets(points, bucket_count_max=count_max)
    found = make_buckets(shuffled, bucket_count_max=count_max)
    for name in ("first_steps", "last_steps", "lows", "highs", "means", "lasts", "counts"):
        assert getattr(expected, name).tobytes() == getattr(found, name).tobytes(), name


@given(series(), st.integers(2, 40))
def test_buckets_do_not_move_with_the_range(points: SeriesPoints, count_max: int) -> None:
    """A bucket's edges are multiples of its width, so a live chart does not jitter."""
    buckets = make_buckets(points, bucket_count_max=count_max)
    if buckets.is_raw:
        assert buckets.width == 1 and len(points.steps) <= count_max
        return
    shift = buckets.width.bit_length() - 1
    assert ((buckets.first_steps >> shift) == (buckets.last_steps >> shift)).all()
    places = buckets.first_steps >> shift
    assert (places[1:] > places[:-1]).all()  # a difference of steps may have 65 bits
