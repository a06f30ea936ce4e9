"""Buckets by their definition, slow and plain: what the SQL that buckets in the store is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from runyard_server.domain.buckets import bucket_shift
from runyard_server.domain.points import Float64Column
from runyard_server.storage.ports.points import BucketColumns, SeriesPoints


def make_buckets(points: SeriesPoints, *, bucket_count_max: int) -> BucketColumns:
    """Returns the buckets of one series, which has at least one point; see PointReader.read_buckets."""
    count = len(points.steps)
    assert count > 0, "a series without points has no buckets"
    # Points of ancestors have writer 0 and come the oldest first: a stable sort keeps that.
    order = np.lexsort((points.writers, points.steps))
    steps, values = points.steps[order], points.values[order]
    is_short = count <= bucket_count_max
    is_raw = is_short and len(np.unique(steps)) == count
    shift = 0
    if not is_short:
        shift = bucket_shift(int(steps[0]), int(steps[-1]), count_max=bucket_count_max)
    # By inequality, not by difference: steps at both ends of 64 bits are further apart than 64 bits say.
    buckets = steps >> shift
    starts = np.flatnonzero(np.append([True], buckets[1:] != buckets[:-1]))
    ends = np.append(starts[1:], count)
    parts = list(_split(values, starts, ends))
    return BucketColumns(
        width=1 << shift,
        is_raw=is_raw,
        first_steps=steps[starts],
        last_steps=steps[ends - 1],
        times_unix_ns=points.times_unix_ns[order][ends - 1],
        lows=np.array([min(_finite(part), default=math.nan) + 0.0 for part in parts]),
        highs=np.array([max(_finite(part), default=math.nan) + 0.0 for part in parts]),
        means=np.array([mean_of_finite(part) for part in parts]),
        lasts=values[ends - 1],
        counts=(ends - starts).astype(np.uint64),
        nan_counts=_count(np.isnan(values), starts),
        positive_infinity_counts=_count(values == np.inf, starts),
        negative_infinity_counts=_count(values == -np.inf, starts),
    )


def mean_of_finite(values: Float64Column) -> float:
    """Returns the mean of the finite values, of their exact sum; NaN if none is finite."""
    finite = _finite(values)
    if not finite:
        return math.nan
    # Scaled, so that the sum of the largest doubles does not overflow; powers of two lose nothing.
    scale = 2.0**-64 if max(map(abs, finite)) > 1e280 else 1.0
    mean = math.fsum(value * scale for value in finite) / len(finite) / scale
    return min(max(mean, min(finite)), max(finite)) + 0.0


def _finite(values: Float64Column) -> list[float]:
    finite: list[float] = values[np.isfinite(values)].tolist()
    return finite


def _split(
    values: Float64Column, starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> Iterator[Float64Column]:
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield values[start:end]


def _count(is_in: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.uint64]:
    return np.add.reduceat(is_in.astype(np.uint64), starts)
