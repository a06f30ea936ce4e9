"""Where a read of buckets takes its points from: each step from one place, stored buckets whole and current."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runyard_server.storage.clickhouse.points_read_plan import (
    join_buckets,
    plan_source,
    span_of_steps,
    stored_span,
)
from runyard_server.storage.clickhouse.points_read_sql import Rollup, Span

EDGES = st.none() | st.integers(-70, 70)


def holds(span: Span, value: int) -> bool:
    return (span.first is None or span.first <= value) and (span.end is None or value < span.end)


@given(EDGES, EDGES, st.integers(0, 4), st.integers(-6, 6), st.sets(st.integers(-20, 20)))
def test_each_step_comes_from_exactly_one_place(
    first: int | None, last: int | None, shift: int, end_bucket: int, touched: set[int]
) -> None:
    """A step of the range is read from points or from a stored bucket that is current and lies in it whole; no other is."""
    steps = span_of_steps(first, last)
    rollup = Rollup(shift=shift, end_bucket=end_bucket, covered_block=0)
    stored = stored_span(rollup, steps)
    again = sorted(bucket for bucket in touched if holds(stored, bucket) and bucket < end_bucket)
    if steps.is_empty:
        return
    source, raw = plan_source((1, 2), rollup, steps, again)
    assert raw.steps == (steps,) and not raw.stored
    for step in range(-100, 101):
        places = sum(holds(span, step) for span in source.steps)
        places += sum(holds(span, step >> shift) for span in source.stored)
        assert places == holds(steps, step), step
    for span in source.stored:
        assert not any(holds(span, bucket) for bucket in again)
        assert span.end is not None and span.end <= end_bucket


@given(st.sets(st.integers(-200, 200)), st.integers(1, 10))
def test_joined_ranges_hold_all_buckets(buckets: set[int], count_max: int) -> None:
    """At most so many ranges, ascending and apart, that hold all; none more than needed if they suffice."""
    ordered = sorted(buckets)
    ranges = join_buckets(ordered, count_max=count_max)
    held = {bucket for first, end in ranges for bucket in range(first, end)}
    assert buckets <= held
    assert len(ranges) <= count_max
    assert all(a[1] < b[0] for a, b in pairwise(ranges))
    if len(join_buckets(ordered, count_max=1_000)) <= count_max:
        assert buckets == held
