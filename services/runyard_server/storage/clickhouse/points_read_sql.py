"""SQL that reads points and buckets. Run keys, metric ids and steps are integers and stand in the text; names are parameters.

Sums are exact, so that a mean has the same bits whatever the order of rows, threads, merges and whether buckets were
stored: a finite value is sign * mantissa * 2**(exponent - 1075); values whose exponents agree but for the lowest three bits
form a *class*, and in a class mantissas shifted by these bits add up as integers, upper and lower 26 bits apart (good for
2**29 points of one class in one bucket). Classes 256, 257 and 258 hold NaN, +Inf and -Inf. Demmel and Nguyen, "Fast
Reproducible Floating-Point Summation" (2013), bin values likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CLASS_NAN, CLASS_POSITIVE_INFINITY, CLASS_NEGATIVE_INFINITY = 256, 257, 258
SETTINGS: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"

_LIMITED_READS_MAX: Final = 32

PARTIAL: Final = """
SELECT run, metric, bucket, class, n, low, high, first_step, toInt64(bitShiftRight(last_key, 32)) AS last_step,
    toUInt32(bitAnd(last_key, 4294967295)) AS last_writer, last, last_time, high_sum, low_sum
FROM (
    SELECT run, metric, bitShiftRight(step, {shift}) AS bucket,
        toUInt16(if(exponent = 2047, multiIf(isNaN(value), 256, value > 0, 257, 258), bitShiftRight(exponent, 3))) AS class,
        count() AS n, min(value) AS low, max(value) AS high, min(step) AS first_step,
        max(key) AS last_key, argMax(value, key) AS last, argMax(time, key) AS last_time,
        sum(sign * toInt64(bitShiftLeft(bitShiftRight(mantissa, 26), offset))) AS high_sum,
        sum(sign * toInt64(bitShiftLeft(bitAnd(mantissa, 67108863), offset))) AS low_sum
    FROM (
        SELECT run, metric, step, time, value, toInt128(step) * 4294967296 + writer AS key,
            reinterpretAsUInt64(value) AS bits, bitAnd(bitShiftRight(bits, 52), 2047) AS exponent,
            bitOr(bitAnd(bits, 4503599627370495), bitShiftLeft(toUInt64(exponent != 0), 52)) AS mantissa,
            bitAnd(exponent + (exponent = 0), 7) AS offset, if(bitShiftRight(bits, 63) = 1, -1, 1) AS sign
        FROM points FINAL
        WHERE {where}
    )
    GROUP BY run, metric, bucket, class
)"""
STORED: Final = """
SELECT run, metric, bitShiftRight(bucket, {shift}) AS bucket, class, n, low, high, first_step, last_step, last_writer, last,
    last_time, high_sum, low_sum
FROM (SELECT * FROM buckets FINAL WHERE {where})
ARRAY JOIN classes AS class, counts AS n, lows AS low, highs AS high, first_steps AS first_step, last_steps AS last_step,
    last_writers AS last_writer, lasts AS last, last_times AS last_time, high_sums AS high_sum, low_sums AS low_sum"""
# The condition stands in a query of its own: beside `AS bucket` its `bucket` would mean the wide one.


@dataclass(frozen=True, slots=True)
class Rollup:
    """What of a series is stored as buckets; see the table `rollups`."""

    shift: int
    end_bucket: int
    covered_block: int
    row_count: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of steps or buckets; None is open."""

    first: int | None = None
    end: int | None = None

    @property
    def is_empty(self) -> bool:
        """Says whether nothing lies in it."""
        return self.first is not None and self.end is not None and self.first >= self.end


Series = tuple[int, int]
"""(run, metric id)."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the points of series in a range come from: from `points` in these steps, from `buckets` in these buckets."""

    series: tuple[Series, ...]
    steps: tuple[Span, ...]
    stored_shift: int = 0
    stored: tuple[Span, ...] = ()


def partials_sql(sources: Iterable[tuple[int, Source]]) -> str:
    """Returns the SQL for partial buckets of each source, of the width 2**shift that stands beside it."""
    parts: list[str] = []
    for shift, source in sources:
        if source.steps:
            where = where_series(source.series, "step", source.steps)
            parts.append(PARTIAL.format(shift=shift, where=where))
        if source.stored:
            where = where_stored(source)
            parts.append(STORED.format(shift=shift - source.stored_shift, where=where))
    return f"SELECT * FROM ({_union(parts)}\n) ORDER BY run, metric, bucket, class {SETTINGS}"


def ranges_sql(sources: Iterable[Source]) -> str:
    """Returns the SQL for the number of points and the first and last step of each series."""
    parts: list[str] = []
    for source in sources:
        if source.steps:
            parts.append(
                "\nSELECT run, metric, count() AS n, min(step) AS first_step, max(step) AS last_step FROM points FINAL"
                f"\nWHERE {where_series(source.series, 'step', source.steps)} GROUP BY run, metric"
            )
        if source.stored:
            parts.append(
                "\nSELECT run, metric, sum(arraySum(counts)) AS n, min(arrayMin(first_steps)) AS first_step,"
                "\n    max(arrayMax(last_steps)) AS last_step FROM buckets FINAL"
                f"\nWHERE {where_stored(source)} GROUP BY run, metric"
            )
    return (
        "SELECT run, metric, sum(n) AS n, min(first_step) AS first_step, max(last_step) AS last_step"
        f"\nFROM ({_union(parts)}\n) GROUP BY run, metric {SETTINGS}"
    )


def points_sql(series: Sequence[Series], steps: Span, *, limit: int | None) -> str:
    """Returns the SQL for the points of series in (run, metric, step, writer) order, at most `limit` of each."""
    columns = "run, metric, step, writer, time, value"
    order = "ORDER BY run, metric, step, writer"
    if limit is None:
        return f"SELECT {columns} FROM points FINAL WHERE {where_series(series, 'step', (steps,))} {order} {SETTINGS}"
    if len(series) > _LIMITED_READS_MAX:
        where = where_series(series, "step", (steps,))
        return f"SELECT {columns} FROM points FINAL WHERE {where} {order} LIMIT {limit} BY run, metric {SETTINGS}"
    # One read per series: in key order, so each ends at its limit instead of reading the series to its end.
    parts = [
        f"\nSELECT {columns} FROM points FINAL WHERE {where_series((one,), 'step', (steps,))} {order} LIMIT {limit}"
        for one in series
    ]
    return f"SELECT {columns} FROM ({_union([f'{chr(10)}({part})' for part in parts])}\n) {order} {SETTINGS}"


def looks_sql(series: Sequence[Series], steps: Span) -> str:
    """Returns the SQL for a first look at series: the extent of those without a rollup, else the rollup (n = 0)."""
    named = where_series(series, "", ())
    return (
        "SELECT run, metric, count() AS n, min(step) AS first_step, max(step) AS last_step,"
        " toUInt8(0) AS shift, toInt64(0) AS end_bucket, toUInt64(0) AS covered_block"
        f"\nFROM points FINAL WHERE {where_series(series, 'step', (steps,))}"
        f"\n    AND (run, metric) NOT IN (SELECT run, metric FROM rollups WHERE {named})"
        "\nGROUP BY run, metric"
        "\nUNION ALL"
        "\nSELECT run, metric, toUInt64(0), toInt64(0), toInt64(0), shift, end_bucket, covered_block"
        f"\nFROM rollups FINAL WHERE {named} {SETTINGS}"
    )


def rollups_sql(series: Sequence[Series]) -> str:
    """Returns the SQL for the rollups of these series."""
    return (
        "SELECT run, metric, shift, end_bucket, covered_block FROM rollups FINAL"
        f" WHERE {where_series(series, '', ())} {SETTINGS}"
    )


def known_steps_sql(series: Sequence[Series]) -> str:
    """Returns the SQL for the first and last step that were ever logged, from the catalogue of series."""
    return (
        "SELECT run, metric, min(first_step) AS step_low, max(last_step) AS step_high FROM series"
        f" WHERE {where_series(series, '', ())} GROUP BY run, metric"
    )


def touched_sql(rollups: Iterable[tuple[Series, Rollup, Span]]) -> str:
    """Returns the SQL for stored buckets that hold points which came after they were made, in the range of steps."""
    parts = [
        f"\nSELECT run, metric, bitShiftRight(step, {rollup.shift}) AS bucket FROM points"
        f"\nWHERE {where_series((series,), 'step', (steps,))} AND block > {rollup.covered_block}"
        "\nGROUP BY run, metric, bucket"
        for series, rollup, steps in rollups
    ]
    return f"SELECT * FROM ({_union(parts)}\n) ORDER BY run, metric, bucket {SETTINGS}"


def where_stored(source: Source) -> str:
    """Returns the condition for the stored buckets of a source."""
    where = where_series(source.series, "bucket", source.stored)
    return f"{where} AND shift = {source.stored_shift}"


def where_series(series: Sequence[Series], column: str, spans: Sequence[Span]) -> str:
    """Returns the condition for these series, in these ranges of `column`; without ranges, everywhere."""
    assert series, "a query must name its series"
    if len(series) == 1:
        text = f"run = {series[0][0]} AND metric = {series[0][1]}"
    elif len({run for run, _ in series}) == 1:
        text = f"run = {series[0][0]} AND metric IN ({', '.join(str(m) for _, m in series)})"
    else:
        text = f"(run, metric) IN ({', '.join(f'({run}, {metric})' for run, metric in series)})"
    ranges = [bounds(column, span) for span in spans]
    if not ranges or "" in ranges:
        return text
    joined = " OR ".join(f"({one})" for one in ranges) if len(ranges) > 1 else ranges[0]
    return f"{text} AND ({joined})" if len(ranges) > 1 else f"{text} AND {joined}"


def bounds(column: str, span: Span) -> str:
    """Returns the condition for a range of `column`; "" for everywhere."""
    parts = []
    if span.first is not None:
        parts.append(f"{column} >= {span.first}")
    if span.end is not None:
        parts.append(f"{column} < {span.end}")
    return " AND ".join(parts)


def _union(parts: Sequence[str]) -> str:
    return "\nUNION ALL".join(parts)
