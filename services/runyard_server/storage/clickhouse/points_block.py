"""Turns the batches of a block into the columns of its rows: NumPy all the way, no object per point or series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runyard_server.domain.points import (
    Float64Column,
    Int64Column,
    PointTable,
    UInt64Column,
    floor_to_ms,
    metric_ids,
)
from runyard_server.storage.ports.points import BlockEntry

_Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PointColumns:
    """Points ordered by (run, metric, step, writer); columns of one length.

    `starts` says where each (run, metric) begins; `names` is one name for each of them.
    """

    runs: UInt64Column
    metrics: UInt64Column
    steps: Int64Column
    writers: NDArray[np.uint32]
    times_unix_ms: Int64Column
    values: Float64Column
    sequences: UInt64Column
    starts: _Positions
    names: list[str]


@dataclass(frozen=True, slots=True)
class SeriesColumns:
    """One row per series of a block; see the table `series`. Columns of one length."""

    runs: UInt64Column
    metrics: UInt64Column
    names: list[str]
    first_steps: Int64Column
    last_steps: Int64Column
    lows: Float64Column
    highs: Float64Column
    first_positions: _Positions
    last_positions: _Positions


@dataclass(frozen=True, slots=True)
class _Segments:
    """Parts of the joined columns that hold one metric of one table each; columns of one length."""

    runs: UInt64Column
    metrics: UInt64Column
    writers: NDArray[np.uint32]
    names: NDArray[np.object_]
    row_starts: _Positions
    value_starts: _Positions
    lengths: _Positions


def expand_block(entries: Sequence[BlockEntry]) -> tuple[PointColumns, SeriesColumns] | None:
    """Returns the points of the block and its series; None if it has no points.

    Of points with one (run, metric, step, writer) the one with the highest sequence stays; the series' lows and
    highs are over all, so that they do not depend on how batches were joined.
    """
    tables = [table for entry in entries for table in entry.batch.tables if table.values.size]
    if not tables:
        return None
    steps = np.concatenate([table.steps for table in tables])
    segments = _order(_make_segments(entries, tables), steps)
    points = _gather(segments, tables, steps)
    is_sorted = _is_sorted(points)
    if not is_sorted:
        points = _sort(points)
    lows, highs = _finite_range(points)
    if not is_sorted:
        points = _drop_replaced(points)
    return points, _make_series(points, lows, highs)


def _make_segments(entries: Sequence[BlockEntry], tables: list[PointTable]) -> _Segments:
    runs, writers, ids, names = [], [], [], []
    for entry in entries:
        batch = entry.batch
        batch_ids = metric_ids(batch.metric_names)
        batch_names = np.array(batch.metric_names, dtype=object)
        for table in batch.tables:
            if table.values.size:
                indexes = np.array(table.metric_indexes, np.intp)
                runs.append(batch.run_key)
                writers.append(batch.writer)
                ids.append(batch_ids[indexes])
                names.append(batch_names[indexes])
    widths = np.fromiter((part.size for part in ids), np.intp, len(ids))
    heights = np.fromiter((table.steps.size for table in tables), np.intp, len(tables))
    lengths = np.repeat(heights, widths)
    return _Segments(
        runs=np.repeat(np.array(runs, np.uint64), widths),
        metrics=np.concatenate(ids),
        writers=np.repeat(np.array(writers, np.uint32), widths),
        names=np.concatenate(names),
        row_starts=np.repeat(np.cumsum(heights) - heights, widths),
        value_starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
    )


def _order(segments: _Segments, steps: Int64Column) -> _Segments:
    """Returns the segments by (run, metric, first step, writer): with ascending steps the points are then in order."""
    order = np.lexsort(
        (segments.writers, steps[segments.row_starts], segments.metrics, segments.runs)
    )
    return _Segments(
        runs=segments.runs[order],
        metrics=segments.metrics[order],
        writers=segments.writers[order],
        names=segments.names[order],
        row_starts=segments.row_starts[order],
        value_starts=segments.value_starts[order],
        lengths=segments.lengths[order],
    )


def _gather(segments: _Segments, tables: list[PointTable], steps: Int64Column) -> PointColumns:
    times_unix_ms = floor_to_ms(np.concatenate([table.times_unix_ns for table in tables]))
    sequences = np.concatenate([table.sequences for table in tables])
    values = np.concatenate([table.values for table in tables])
    lengths = segments.lengths
    positions = np.cumsum(lengths) - lengths
    count = int(lengths.sum())
    within = np.arange(count)
    rows = within + np.repeat(segments.row_starts - positions, lengths)
    within += np.repeat(segments.value_starts - positions, lengths)
    is_first = np.ones(lengths.size, np.bool_)
    is_first[1:] = (segments.runs[1:] != segments.runs[:-1]) | (
        segments.metrics[1:] != segments.metrics[:-1]
    )
    return PointColumns(
        runs=np.repeat(segments.runs, lengths),
        metrics=np.repeat(segments.metrics, lengths),
        steps=steps[rows],
        writers=np.repeat(segments.writers, lengths),
        times_unix_ms=times_unix_ms[rows],
        values=values[within],
        sequences=sequences[rows],
        starts=positions[is_first],
        names=segments.names[is_first].tolist(),
    )


def _is_sorted(points: PointColumns) -> bool:
    """Returns whether each series ascends strictly by (step, writer), which most blocks do."""
    steps, writers = points.steps, points.writers
    is_wrong = steps[1:] <= steps[:-1]
    is_wrong[points.starts[1:] - 1] = False
    wrong = np.flatnonzero(is_wrong)
    if not wrong.size:
        return True
    return bool(np.all((steps[wrong + 1] == steps[wrong]) & (writers[wrong + 1] > writers[wrong])))


def _sort(points: PointColumns) -> PointColumns:
    groups = np.repeat(np.arange(points.starts.size), _lengths(points))
    order = np.lexsort((points.sequences, points.writers, points.steps, groups))
    return PointColumns(
        runs=points.runs,
        metrics=points.metrics,
        steps=points.steps[order],
        writers=points.writers[order],
        times_unix_ms=points.times_unix_ms[order],
        values=points.values[order],
        sequences=points.sequences[order],
        starts=points.starts,
        names=points.names,
    )


def _drop_replaced(points: PointColumns) -> PointColumns:
    """Returns sorted points without those that the next one replaces."""
    is_replaced = np.zeros(points.steps.size, np.bool_)
    is_replaced[:-1] = (points.steps[1:] == points.steps[:-1]) & (
        points.writers[1:] == points.writers[:-1]
    )
    is_replaced[points.starts[1:] - 1] = False
    if not is_replaced.any():
        return points
    kept = np.flatnonzero(~is_replaced)
    return PointColumns(
        runs=points.runs[kept],
        metrics=points.metrics[kept],
        steps=points.steps[kept],
        writers=points.writers[kept],
        times_unix_ms=points.times_unix_ms[kept],
        values=points.values[kept],
        sequences=points.sequences[kept],
        starts=np.searchsorted(kept, points.starts),
        names=points.names,
    )


def _finite_range(points: PointColumns) -> tuple[Float64Column, Float64Column]:
    """Returns lowest and highest finite value of each series; +inf and -inf where none is finite."""
    values, starts = points.values, points.starts
    is_finite = np.isfinite(values)
    if is_finite.all():
        lows, highs = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    else:
        lows = np.minimum.reduceat(np.where(is_finite, values, np.inf), starts)
        highs = np.maximum.reduceat(np.where(is_finite, values, -np.inf), starts)
    return lows + 0.0, highs + 0.0  # -0.0 becomes 0.0: of equal extremes either could win


def _make_series(points: PointColumns, lows: Float64Column, highs: Float64Column) -> SeriesColumns:
    starts = points.starts
    lasts = np.append(starts[1:], points.steps.size) - 1
    return SeriesColumns(
        runs=points.runs[starts],
        metrics=points.metrics[starts],
        names=points.names,
        first_steps=points.steps[starts],
        last_steps=points.steps[lasts],
        lows=lows,
        highs=highs,
        first_positions=starts,
        last_positions=lasts,
    )


def _lengths(points: PointColumns) -> _Positions:
    return np.diff(points.starts, append=points.steps.size)
