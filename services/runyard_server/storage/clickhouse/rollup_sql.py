"""SQL of rollups: which series have grown, how far they are settled, and their buckets made anew from `points FINAL`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard_server.storage.clickhouse.points_read_sql import (
    PARTIAL,
    Rollup,
    Series,
    Span,
    where_series,
)

_ARRAYS: Final = (
    "class", "n", "low", "high", "first_step", "last_step", "last_writer", "last", "last_time", "high_sum", "low_sum",
)  # fmt: skip


def candidates_sql(*, rows_min: int, growth_min: float, limit: int) -> str:
    """Returns the SQL for series that grew enough since their rollup, the largest growth first.

    Sizes come from the sparse index of the table, in memory, so no points are read; a size may be off by one granule per part.
    """
    return (
        "SELECT run, metric, sizes.row_count AS size"
        "\nFROM (SELECT run, metric, sum(rows_in_granule) AS row_count FROM mergeTreeIndex(currentDatabase(), 'points')"
        f"\n    GROUP BY run, metric HAVING row_count >= {rows_min}) AS sizes"
        "\nLEFT JOIN (SELECT run, metric, row_count AS rolled_count FROM rollups FINAL) AS rolled USING (run, metric)"
        f"\nWHERE size >= rolled_count + greatest({rows_min}, toUInt64(rolled_count * {growth_min}))"
        f"\nORDER BY size - rolled_count DESC LIMIT {limit}"
    )


def rollup_sql(series: Series) -> str:
    """Returns the SQL for the rollup of a series, if it has one."""
    return (
        "SELECT shift, end_bucket, covered_block, row_count FROM rollups FINAL"
        f" WHERE {where_series((series,), 'step', ())}"
    )


def settled_sql(series: Series, *, covered_block: int) -> str:
    """Returns the SQL for the number and the steps of the stored rows that came up to that block."""
    return (
        f"SELECT countIf(block <= {covered_block}) AS row_count, count() AS row_count_total,"
        f" minIf(step, block <= {covered_block}) AS first_step, maxIf(step, block <= {covered_block}) AS last_step"
        f"\nFROM points WHERE {where_series((series,), 'step', ())}"
    )


def insert_buckets_sql(series: Series, spans: Sequence[Span], *, shift: int, version: int) -> str:
    """Returns the statement that makes the buckets of these ranges of steps, whole ones, anew."""
    partial = PARTIAL.format(shift=shift, where=where_series((series,), "step", spans))
    arrays = ", ".join(f"groupArray({name})" for name in _ARRAYS)
    return (
        f"INSERT INTO buckets SELECT run, metric, {shift}, bucket, {version}, {arrays}"
        f"\nFROM ({partial}\n) GROUP BY run, metric, bucket"
        "\nSETTINGS do_not_merge_across_partitions_select_final = 1, max_threads = 1"
    )


def insert_rollup_sql(series: Series, rollup: Rollup, *, version: int) -> str:
    """Returns the statement that says what is stored of a series."""
    values = (
        *series, rollup.shift, rollup.end_bucket, rollup.covered_block, rollup.row_count, version,
    )  # fmt: skip
    return f"INSERT INTO rollups VALUES ({', '.join(map(str, values))})"


def withdraw_sql(*, now: int, covered_block: int, limit: int) -> str:
    """Returns the statement that makes rollups from the future speak of the present: the clock was set back.

    Points that came since then have earlier block times than those that the rollups claim to cover.
    """
    return (
        f"INSERT INTO rollups SELECT run, metric, shift, end_bucket, {covered_block}, row_count, version + 1"
        f"\nFROM rollups FINAL WHERE version > {now} AND covered_block > {covered_block} LIMIT {limit}"
    )
