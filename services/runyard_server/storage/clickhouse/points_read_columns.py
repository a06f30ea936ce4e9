"""Turns partial buckets, as points_read_sql.py makes them, into the columns that readers get; pure, no loop over rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runyard_server.domain.points import Float64Column, Int64Column, UInt64Column
from runyard_server.storage.clickhouse.points_read_sql import (
    CLASS_NAN,
    CLASS_NEGATIVE_INFINITY,
    CLASS_POSITIVE_INFINITY,
    Series,
)
from runyard_server.storage.ports.points import BucketColumns, MetricStats, SeriesPoints

NS_PER_MS: Final = 1_000_000
_EXPONENT_OF_CLASS: Final = 8
_LOW_SUM_EXPONENT: Final = -1075
_HIGH_SUM_BITS: Final = 26

_Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Partials:
    """Partial buckets, ordered by (run, metric, bucket, class); several rows may have one key."""

    columns: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def rows(self, wanted: slice) -> Partials:
        """Returns some of the rows."""
        return Partials({name: values[wanted] for name, values in self.columns.items()})

    def widen(self, shift: int) -> Partials:
        """Returns the rows as parts of buckets that are 2**shift times as wide, in order."""
        if shift == 0:
            return self
        buckets = self["bucket"] >> shift
        order = np.lexsort((self["class"], buckets, self["metric"], self["run"]))
        wide = Partials(dict(self.columns) | {"bucket": buckets})
        return Partials({name: values[order] for name, values in wide.columns.items()})


def read_partials(table: pa.Table) -> Partials:
    """Returns the rows of a query made by partials_sql as columns."""
    return Partials({name: column(table, name) for name in table.column_names})


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Returns one column without nulls as an array; without a copy where it came in one piece."""
    pieces = table.column(name)
    if pieces.num_chunks == 1:
        values: NDArray[Any] = pieces.chunk(0).to_numpy(zero_copy_only=False)
    else:
        values = pieces.to_numpy()
    return values


def rows_of(table: pa.Table) -> Iterator[tuple[int, ...]]:
    """Yields the rows of a small table of numbers."""
    columns = [column(table, name).tolist() for name in table.column_names]
    return zip(*columns, strict=True)


def texts(table: pa.Table, name: str) -> list[str]:
    """Returns one column of text; bytes that are no UTF-8 are replaced."""
    values: list[Any] = table.column(name).to_pylist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]


def read_stats(names: Sequence[str], table: pa.Table) -> Iterator[MetricStats]:
    """Yields the stats of the metric of each row, whose names stand beside the table; low > high where no value is finite."""
    wanted = ("step_low", "step_high", "first_value", "last_value", "low", "high", "last_time")
    columns = [column(table, name).tolist() for name in wanted]
    for name, first_step, last_step, first, last, low, high, time in zip(
        names, *columns, strict=True
    ):
        has_finite = low <= high
        yield MetricStats(
            name=name,
            first_step=first_step,
            last_step=last_step,
            first=first,
            last=last,
            low=low + 0.0 if has_finite else math.nan,
            high=high + 0.0 if has_finite else math.nan,
            last_time_unix_ns=time * NS_PER_MS,
        )


def series_slices(runs: UInt64Column, metrics: UInt64Column) -> Iterator[tuple[Series, slice]]:
    """Returns where each series lies in rows that are ordered by (run, metric)."""
    starts = _starts(runs, metrics)
    ends = np.append(starts[1:], len(runs))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield (int(runs[start]), int(metrics[start])), slice(start, end)


def merge_partials(partials: Partials, shifts: Mapping[Series, int]) -> dict[Series, BucketColumns]:
    """Returns the buckets of each series; `shifts` says of which width they are."""
    count = len(partials["run"])
    if count == 0:
        return {}
    by_class = _starts(*(partials[name] for name in ("run", "metric", "bucket", "class")))
    starts = _starts(*(partials[name] for name in ("run", "metric", "bucket")))
    finite = partials["class"] < CLASS_NAN
    lows = np.minimum.reduceat(np.where(finite, partials["low"], np.inf), starts)
    highs = np.maximum.reduceat(np.where(finite, partials["high"], -np.inf), starts)
    counts = partials["n"].astype(np.uint64, copy=False)
    finite_counts = np.add.reduceat(np.where(finite, counts, 0).astype(np.uint64), starts)
    none_finite = finite_counts == 0
    last = _last_rows(partials, starts)
    merged = {
        "first_steps": np.minimum.reduceat(partials["first_step"], starts),
        "last_steps": partials["last_step"][last],
        "times_unix_ns": partials["last_time"][last] * NS_PER_MS,
        # Adding 0.0 makes -0.0 into 0.0: which of the two came first must not matter.
        "lows": np.where(none_finite, np.nan, lows) + 0.0,
        "highs": np.where(none_finite, np.nan, highs) + 0.0,
        "means": _means(partials, by_class, starts, counts=finite_counts, limits=(lows, highs)),
        "lasts": partials["last"][last],
        "counts": np.add.reduceat(counts, starts),
        "nan_counts": _class_counts(partials, counts, starts, CLASS_NAN),
        "positive_infinity_counts": _class_counts(
            partials, counts, starts, CLASS_POSITIVE_INFINITY
        ),
        "negative_infinity_counts": _class_counts(
            partials, counts, starts, CLASS_NEGATIVE_INFINITY
        ),
    }
    return {
        series: BucketColumns(
            width=1 << shifts[series],
            is_raw=False,
            **{name: values[rows] for name, values in merged.items()},
        )
        for series, rows in series_slices(partials["run"][starts], partials["metric"][starts])
    }


def has_shared_steps(points: SeriesPoints) -> bool:
    """Returns whether a step has points of several writers."""
    return bool((points.steps[1:] == points.steps[:-1]).any())


def as_one_bucket(partials: Partials) -> Partials:
    """Returns the partial buckets of each series as parts of one bucket, in order."""
    order = np.lexsort((partials["class"], partials["metric"], partials["run"]))
    columns = {name: values[order] for name, values in partials.columns.items()}
    return Partials(columns | {"bucket": np.zeros(len(order), np.int64)})


def raw_buckets(points: SeriesPoints) -> BucketColumns:
    """Returns each point as a bucket of its own."""
    values = points.values
    finite = np.where(np.isfinite(values), values, np.nan) + 0.0
    return BucketColumns(
        width=1,
        is_raw=True,
        first_steps=points.steps,
        last_steps=points.steps,
        times_unix_ns=points.times_unix_ns,
        lows=finite,
        highs=finite,
        means=finite,
        lasts=values,
        counts=np.ones(len(values), np.uint64),
        nan_counts=np.isnan(values).astype(np.uint64),
        positive_infinity_counts=(values == np.inf).astype(np.uint64),
        negative_infinity_counts=(values == -np.inf).astype(np.uint64),
    )


def read_points(table: pa.Table) -> dict[Series, SeriesPoints]:
    """Returns the rows of a query made by points_sql, by series."""
    columns = {name: column(table, name) for name in table.column_names}
    if table.num_rows == 0:
        return {}
    times_unix_ns = columns["time"] * NS_PER_MS
    writers = columns["writer"].astype(np.uint64)
    return {
        series: SeriesPoints(
            steps=columns["step"][rows],
            times_unix_ns=times_unix_ns[rows],
            values=columns["value"][rows],
            writers=writers[rows],
        )
        for series, rows in series_slices(columns["run"], columns["metric"])
    }


def empty_points() -> SeriesPoints:
    """Returns a series without points."""
    return SeriesPoints(
        steps=np.empty(0, np.int64),
        times_unix_ns=np.empty(0, np.int64),
        values=np.empty(0, np.float64),
        writers=np.empty(0, np.uint64),
    )


def _starts(*keys: NDArray[Any]) -> _Positions:
    """Returns where a new key begins in rows that are ordered by it."""
    is_new = np.zeros(len(keys[0]), np.bool_)
    if len(is_new):
        is_new[0] = True
    for key in keys:
        is_new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(is_new)


def _last_rows(partials: Partials, starts: _Positions) -> _Positions:
    """Returns, of each bucket, the row whose last point is at the largest (step, writer)."""
    count = len(partials["run"])
    if len(starts) == count:
        return starts
    sizes = np.diff(np.append(starts, count))
    steps, writers = partials["last_step"], partials["last_writer"].astype(np.int64)
    is_last = steps == np.repeat(np.maximum.reduceat(steps, starts), sizes)
    writers = np.where(is_last, writers, -1)
    is_last &= writers == np.repeat(np.maximum.reduceat(writers, starts), sizes)
    rows = np.flatnonzero(is_last)
    # One point cannot be in two rows of a bucket, so there is exactly one.
    assert len(rows) == len(starts), (len(rows), len(starts))
    return rows


def _class_counts(
    partials: Partials, counts: UInt64Column, starts: _Positions, kind: int
) -> UInt64Column:
    found = np.where(partials["class"] == kind, counts, 0).astype(np.uint64)
    summed: UInt64Column = np.add.reduceat(found, starts)
    return summed


def _means(
    partials: Partials,
    by_class: _Positions,
    starts: _Positions,
    *,
    counts: UInt64Column,
    limits: tuple[Float64Column, Float64Column],
) -> Float64Column:
    """Returns the mean of the finite values of each bucket; the sums of each class are added up exactly first.

    `counts` are of the finite values, `limits` the lowest and highest of them: rounding must not pass these.
    """
    high_sums: Int64Column = np.add.reduceat(partials["high_sum"], by_class)
    low_sums: Int64Column = np.add.reduceat(partials["low_sum"], by_class)
    classes = partials["class"][by_class].astype(np.int64)
    is_finite = classes < CLASS_NAN
    first_class = np.searchsorted(by_class, starts)
    sizes = np.diff(np.append(first_class, len(by_class)))
    # Relative to the bucket's highest class, so that the largest doubles do not overflow before they are divided.
    top = np.maximum.reduceat(np.where(is_finite, classes, 0), first_class)
    exponents = (classes - np.repeat(top, sizes)) * _EXPONENT_OF_CLASS
    exponents = np.where(is_finite, exponents, 0).astype(np.int32)
    sums = np.ldexp(high_sums.astype(np.float64), exponents + _HIGH_SUM_BITS)
    sums += np.ldexp(low_sums.astype(np.float64), exponents)
    totals = np.add.reduceat(np.where(is_finite, sums, 0.0), first_class)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = totals / counts.astype(np.float64)
    means = np.ldexp(means, (top * _EXPONENT_OF_CLASS + _LOW_SUM_EXPONENT).astype(np.int32))
    clipped = np.minimum(np.maximum(means, limits[0]), limits[1])
    bounded: Float64Column = np.where(counts == 0, np.nan, clipped) + 0.0
    return bounded
