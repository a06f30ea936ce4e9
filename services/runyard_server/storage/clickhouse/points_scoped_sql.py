"""SQL that reads points of runs with a history of their own: rewound, forked, or of some writers only.

A *source* is a query that gives a run's points, wherever they lie, as the run's own. Its `writer` is a rank that orders points of
one step and tells every two apart: (63 - depth) << 24 | writer, so that ancestors come first, the oldest before the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from runyard_server.domain.points import UInt64Column
from runyard_server.domain.run import HistoryPart
from runyard_server.storage.clickhouse.points_read_sql import (
    PARTIAL,
    SETTINGS,
    STORED,
    Rollup,
    Series,
    Source,
    Span,
    bounds,
    where_series,
    where_stored,
)
from runyard_server.storage.ports.points import Scope

DEPTH_MAX: Final = 63
_WRITER_BITS: Final = 24
_OWN_RANK: Final = DEPTH_MAX << _WRITER_BITS
_POINTS_FROM: Final = "FROM points FINAL\n        WHERE {where}"

assert _POINTS_FROM in PARTIAL, "the partial buckets are made from points"
PARTIAL_OF: Final = PARTIAL.replace(_POINTS_FROM, "FROM ({source}\n)")

Scoped = Mapping[int, tuple[Scope, Sequence[int]]]
"""Run → its scope, and the ids of the metrics wanted; no ids: all."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one part of its history gives to a series: its points, and stored buckets of which all points count."""

    series: Series
    """As which the points are read."""
    depth: int
    part: HistoryPart
    writers: tuple[int, ...]
    source: Source
    """Where they lie: the series of the part's run."""


def counts_sql(part: HistoryPart, writers: Sequence[int], *, step: str, writer: str) -> str:
    """Returns the condition for a point of the part's run, of which these are the step and the writer, to count."""
    conditions = _conditions(part, writers, step=step, writer=writer)
    if part.last_step is not None:
        conditions.append(f"{step} <= {part.last_step}")
    return " AND ".join([f"run = {int(part.run_key)}", *conditions])


def parts_of(scope: Scope) -> tuple[HistoryPart, ...]:
    """Returns the parts of which points are read, the run's own first."""
    parts = scope.parts[:1] if scope.writers else scope.parts
    assert len(parts) <= DEPTH_MAX + 1, len(parts)
    return parts


def source_sql(run: int, scope: Scope, metrics: Sequence[int], steps: Span) -> str:
    """Returns the query for the points of one run: columns run, metric, step, writer (a rank), time, value."""
    return "\nUNION ALL".join(
        _part_sql(run, depth, _where(part, scope.writers, metrics, steps))
        for depth, part in enumerate(parts_of(scope))
    )


def pieces_partials_sql(sources: Iterable[tuple[int, Piece]]) -> str:
    """Returns the SQL for partial buckets of the pieces, of the width 2**shift that stands beside each."""
    parts = []
    for shift, piece in sources:
        parts += [PARTIAL_OF.format(shift=shift, source=sql) for sql in _piece_points(piece)]
        if piece.source.stored:
            stored = STORED.format(
                shift=shift - piece.source.stored_shift, where=where_stored(piece.source)
            )
            # In two steps, as in _part_sql.
            parts.append(
                f"\nSELECT toUInt64({piece.series[0]}) AS run, metric, bucket, class, n, low, high, first_step, last_step,"
                f" toUInt32({rank(piece.depth)} + own_writer) AS last_writer, last, last_time, high_sum, low_sum"
                f"\nFROM (SELECT * EXCEPT (run, last_writer), last_writer AS own_writer FROM ({stored}))"
            )
    union = "\nUNION ALL".join(parts)
    return f"SELECT * FROM ({union}\n) ORDER BY run, metric, bucket, class {SETTINGS}"


def pieces_extents_sql(pieces: Iterable[Piece]) -> str:
    """Returns the SQL for the number of points and the first and last step of each series that the pieces make up."""
    parts = []
    for piece in pieces:
        run, metric = piece.series
        names = f"toUInt64({run}) AS run, toUInt64({metric}) AS metric"
        parts += [
            f"\nSELECT {names}, count() AS n, min(step) AS first_step, max(step) AS last_step FROM ({sql}) HAVING n > 0"
            for sql in _piece_points(piece)
        ]
        if piece.source.stored:
            parts.append(
                f"\nSELECT {names}, sum(arraySum(counts)) AS n, min(arrayMin(first_steps)) AS first_step,"
                "\n    max(arrayMax(last_steps)) AS last_step"
                f"\nFROM (SELECT counts, first_steps, last_steps FROM buckets FINAL WHERE {where_stored(piece.source)}) HAVING n > 0"
            )
    union = "\nUNION ALL".join(parts)
    return (
        "SELECT run, metric, sum(n) AS n, min(first_step) AS first_step, max(last_step) AS last_step"
        f"\nFROM ({union}\n) GROUP BY run, metric {SETTINGS}"
    )


def excluding_sql(
    excluding: Iterable[tuple[HistoryPart, Sequence[int], Series, Rollup, Span]],
) -> str:
    """Returns the SQL for stored buckets that hold points which do not count, in the range of steps."""
    union = "\nUNION ALL".join(
        f"\nSELECT run, metric, bitShiftRight(step, {rollup.shift}) AS bucket FROM points"
        f"\nWHERE {where_series((one,), 'step', (steps,))} AND NOT ({' AND '.join(_conditions(part, writers))})"
        "\nGROUP BY run, metric, bucket"
        for part, writers, one, rollup, steps in excluding
    )
    return f"SELECT * FROM ({union}\n) ORDER BY run, metric, bucket {SETTINGS}"


def scoped_points_sql(scoped: Scoped, steps: Span, *, limit: int | None) -> str:
    """Returns the SQL for the points in (run, metric, step, rank) order, at most `limit` of each series."""
    cut = "" if limit is None else f" LIMIT {limit} BY run, metric"
    return (
        f"SELECT run, metric, step, writer, time, value FROM ({_sources(scoped, steps)}\n)"
        f"\nORDER BY run, metric, step, writer{cut} {SETTINGS}"
    )


def scoped_extents_sql(scoped: Scoped, steps: Span) -> str:
    """Returns the SQL for the number of points of each series, and the first and last step."""
    return (
        "SELECT run, metric, count() AS n, min(step) AS first_step, max(step) AS last_step"
        f"\nFROM ({_sources(scoped, steps)}\n) GROUP BY run, metric {SETTINGS}"
    )


def scoped_partials_sql(sources: Iterable[tuple[int, Scoped]], steps: Span) -> str:
    """Returns the SQL for partial buckets of the width 2**shift that stands beside each."""
    parts = []
    for shift, scoped in sources:
        parts.append(PARTIAL_OF.format(shift=shift, source=_sources(scoped, steps)))
    union = "\nUNION ALL".join(parts)
    return f"SELECT * FROM ({union}\n) ORDER BY run, metric, bucket, class {SETTINGS}"


def last_step_sql(run: int, scope: Scope) -> str:
    """Returns the SQL for the number of points and the largest step."""
    return f"SELECT count() AS n, max(step) AS step FROM ({source_sql(run, scope, (), Span())}\n) {SETTINGS}"


def writers_of(ranks: UInt64Column) -> UInt64Column:
    """Returns the writers that ranks stand for; 0 for those of ancestors."""
    low_bits = np.uint64((1 << _WRITER_BITS) - 1)
    writers: UInt64Column = np.where(ranks >= _OWN_RANK, ranks & low_bits, np.uint64(0))
    return writers


def rank(depth: int) -> int:
    """Returns what stands for writer 0 of the part of that depth; 0 is the run's own part."""
    return (DEPTH_MAX - depth) << _WRITER_BITS


def _sources(scoped: Scoped, steps: Span) -> str:
    return "\nUNION ALL".join(
        source_sql(run, scope, metrics, steps) for run, (scope, metrics) in scoped.items()
    )


def _part_sql(run: int, depth: int, where: str) -> str:
    # In two steps: beside `AS run` and `AS writer` the conditions would mean these, and not the columns.
    return (
        f"\nSELECT toUInt64({run}) AS run, metric, step, toUInt32({rank(depth)} + own_writer) AS writer, time, value"
        "\nFROM (SELECT metric, step, writer AS own_writer, time, value FROM points FINAL"
        f"\n    WHERE {where})"
    )


def _piece_points(piece: Piece) -> list[str]:
    metrics = (piece.series[1],)
    return [
        _part_sql(piece.series[0], piece.depth, _where(piece.part, piece.writers, metrics, steps))
        for steps in piece.source.steps
    ]


def _where(part: HistoryPart, writers: Sequence[int], metrics: Sequence[int], steps: Span) -> str:
    conditions = [f"run = {int(part.run_key)}"]
    if len(metrics) == 1:
        conditions.append(f"metric = {int(metrics[0])}")
    elif metrics:
        conditions.append(f"metric IN ({', '.join(str(int(m)) for m in metrics)})")
    if wanted := bounds("step", steps):
        conditions.append(wanted)
    if part.last_step is not None:
        conditions.append(f"step <= {part.last_step}")
    return " AND ".join(conditions + _conditions(part, writers))


def _conditions(
    part: HistoryPart, writers: Sequence[int], *, step: str = "step", writer: str = "writer"
) -> list[str]:
    """Returns what a point of the part must meet to count, but for the part's last step."""
    conditions = [f"{writer} <= {part.writer_max}"] if part.writer_max else []
    conditions += [
        f"({writer} > {cut.writer_max} OR {step} <= {cut.last_step})" for cut in part.cuts
    ]
    if writers:
        conditions.append(f"{writer} IN ({', '.join(str(int(w)) for w in writers)})")
    return conditions
