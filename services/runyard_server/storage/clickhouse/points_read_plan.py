"""Where a read of buckets takes its points from: stored buckets where they are current, points for the rest; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from runyard_server.storage.clickhouse.points_read_sql import Rollup, Series, Source, Span

STEP_MAX: Final = 2**63 - 1
SPANS_MAX: Final = 64
"""Stored buckets that late points touched are read from points in at most this many ranges, close ones joined."""

_Item = TypeVar("_Item")


def span_of_steps(first_step: int | None, last_step: int | None) -> Span:
    """Returns the closed range as a half-open one."""
    is_open = last_step is None or last_step >= STEP_MAX
    return Span(first_step, None if is_open or last_step is None else last_step + 1)


def stored_span(rollup: Rollup, steps: Span) -> Span:
    """Returns the stored buckets that lie in the range whole."""
    first = None if steps.first is None else -(-steps.first >> rollup.shift)
    end = (
        rollup.end_bucket
        if steps.end is None
        else min(rollup.end_bucket, steps.end >> rollup.shift)
    )
    return Span(first, end)


def steps_of(buckets: Span, shift: int) -> Span:
    """Returns the steps of a range of buckets of the width 2**shift."""
    return Span(_step(buckets.first, shift), _step(buckets.end, shift))


def plan_source(
    series: Series, rollup: Rollup, steps: Span, touched: Sequence[int]
) -> tuple[Source, Source]:
    """Returns where the points of a rolled-up series come from, and the same without stored buckets.

    `touched` are the stored buckets in the range that hold points which came after they were made, ascending.
    """
    raw = Source(series=(series,), steps=(steps,))
    stored = stored_span(rollup, steps)
    if stored.is_empty or stored.end is None:
        return raw, raw
    again = join_buckets(touched, count_max=SPANS_MAX)
    spans = [Span(None if stored.first is None else steps.first, _step(stored.first, rollup.shift))]
    if stored.first is None:
        spans = []
    spans += [Span(first << rollup.shift, end << rollup.shift) for first, end in again]
    spans.append(Span(_step(stored.end, rollup.shift), steps.end))
    kept = tuple(span for span in _between(stored, again) if not span.is_empty)
    if not kept:
        return raw, raw
    wanted = tuple(span for span in spans if not span.is_empty)
    return Source((series,), wanted, stored_shift=rollup.shift, stored=kept), raw


def join_buckets(buckets: Iterable[int], *, count_max: int) -> list[tuple[int, int]]:
    """Returns at most `count_max` half-open ranges that hold all the buckets, the smallest gaps closed first."""
    ranges: list[tuple[int, int]] = []
    for bucket in buckets:
        if ranges and bucket == ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], bucket + 1)
        else:
            ranges.append((bucket, bucket + 1))
    if len(ranges) <= count_max:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda i: ranges[i - 1][1] - ranges[i][0])
    cuts = sorted(gaps[: count_max - 1])
    edges = [0, *cuts, len(ranges)]
    return [(ranges[start][0], ranges[end - 1][1]) for start, end in itertools.pairwise(edges)]


def chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Yields the items in parts of at most that size."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _between(stored: Span, again: Sequence[tuple[int, int]]) -> Iterator[Span]:
    first = stored.first
    for begin, end in again:
        yield Span(first, begin)
        first = end
    yield Span(first, stored.end)


def _step(bucket: int | None, shift: int) -> int | None:
    return None if bucket is None else bucket << shift
