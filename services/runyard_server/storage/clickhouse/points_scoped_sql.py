"""SQL that reads points of runs with a history of their own: rewound, forked, or of some writers only.

A *source* is a query that gives a run's points, wherever they lie, as the run's own. Its `writer` is a rank that orders points of
one step and tells every two apart: (63 - depth) << 24 | writer, so that ancestors come first, the oldest before the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from runyard_server.domain.points import UInt64Column
from runyard_server.domain.run import HistoryPart
from runyard_server.storage.clickhouse.points_read_sql import (
    PARTIAL,
    SETTINGS,
    Span,
    bounds,
)
from runyard_server.storage.ports.points import Scope

DEPTH_MAX: Final = 63
_WRITER_BITS: Final = 24
_OWN_RANK: Final = DEPTH_MAX << _WRITER_BITS
_POINTS_FROM: Final = "FROM points FINAL\n        WHERE {where}"

assert _POINTS_FROM in PARTIAL, "the partial buckets are made from points"

Scoped = Mapping[int, tuple[Scope, Sequence[int]]]
"""Run → its scope, and the ids of the metrics wanted; no ids: all."""


def source_sql(run: int, scope: Scope, metrics: Sequence[int], steps: Span) -> str:
    """Returns the query for the points of one run: columns run, metric, step, writer (a rank), time, value."""
    parts = scope.parts[:1] if scope.writers else scope.parts
    assert len(parts) <= DEPTH_MAX + 1, len(parts)
    # In two steps: beside `AS run` and `AS writer` the conditions would mean these, and not the columns.
    return "\nUNION ALL".join(
        f"\nSELECT toUInt64({run}) AS run, metric, step, toUInt32({(DEPTH_MAX - depth) << _WRITER_BITS} + own_writer) AS writer,"
        " time, value\nFROM (SELECT metric, step, writer AS own_writer, time, value FROM points FINAL"
        f"\n    WHERE {_where(part, scope.writers, metrics, steps)})"
        for depth, part in enumerate(parts)
    )


def scoped_points_sql(scoped: Scoped, steps: Span, *, limit: int | None) -> str:
    """Returns the SQL for the points in (run, metric, step, rank) order, at most `limit` of each series."""
    cut = "" if limit is None else f" LIMIT {limit} BY run, metric"
    return (
        f"SELECT run, metric, step, writer, time, value FROM ({_sources(scoped, steps)}\n)"
        f"\nORDER BY run, metric, step, writer{cut} {SETTINGS}"
    )


def scoped_extents_sql(scoped: Scoped, steps: Span) -> str:
    """Returns the SQL for the number of points of each series, how many steps they share, and the first and last step."""
    return (
        "SELECT run, metric, count() AS n, uniqExact(step) AS step_count, min(step) AS first_step, max(step) AS last_step"
        f"\nFROM ({_sources(scoped, steps)}\n) GROUP BY run, metric {SETTINGS}"
    )


def scoped_partials_sql(sources: Iterable[tuple[int, Scoped]], steps: Span) -> str:
    """Returns the SQL for partial buckets of the width 2**shift that stands beside each."""
    parts = []
    for shift, scoped in sources:
        text = PARTIAL.replace(_POINTS_FROM, "FROM ({source}\n)")
        parts.append(text.format(shift=shift, source=_sources(scoped, steps)))
    union = "\nUNION ALL".join(parts)
    return f"SELECT * FROM ({union}\n) ORDER BY run, metric, bucket, class {SETTINGS}"


def scoped_stats_sql(run: int, scope: Scope, metrics: Sequence[int]) -> str:
    """Returns the SQL for what is known of each metric, with its name, made from the points themselves."""
    runs = ", ".join(str(int(part.run_key)) for part in scope.parts)
    return (
        "SELECT run, metric_name, step_low, step_high, first_value, last_value, low, high, last_time FROM ("
        "\nSELECT run, metric, min(step) AS step_low, max(step) AS step_high, argMin(value, (step, writer)) AS first_value,"
        "\n    argMax(value, (step, writer)) AS last_value, argMax(time, (step, writer)) AS last_time,"
        "\n    minIf(value, isFinite(value)) AS found_low, maxIf(value, isFinite(value)) AS found_high,"
        "\n    countIf(isFinite(value)) AS finite_count,"
        "\n    if(finite_count = 0, toFloat64('inf'), found_low) AS low,"
        "\n    if(finite_count = 0, toFloat64('-inf'), found_high) AS high"
        f"\nFROM ({source_sql(run, scope, metrics, Span())}\n) GROUP BY run, metric) AS stats"
        f"\nINNER JOIN (SELECT metric, any(name) AS metric_name FROM series WHERE run IN ({runs}) GROUP BY metric) AS names"
        "\nON stats.metric = names.metric"
    )


def last_step_sql(run: int, scope: Scope) -> str:
    """Returns the SQL for the number of points and the largest step."""
    return f"SELECT count() AS n, max(step) AS step FROM ({source_sql(run, scope, (), Span())}\n) {SETTINGS}"


def writers_of(ranks: UInt64Column) -> UInt64Column:
    """Returns the writers that ranks stand for; 0 for those of ancestors."""
    low_bits = np.uint64((1 << _WRITER_BITS) - 1)
    writers: UInt64Column = np.where(ranks >= _OWN_RANK, ranks & low_bits, np.uint64(0))
    return writers


def _sources(scoped: Scoped, steps: Span) -> str:
    return "\nUNION ALL".join(
        source_sql(run, scope, metrics, steps) for run, (scope, metrics) in scoped.items()
    )


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
    if part.writer_max:
        conditions.append(f"writer <= {part.writer_max}")
    conditions += [f"(writer > {cut.writer_max} OR step <= {cut.last_step})" for cut in part.cuts]
    if writers:
        conditions.append(f"writer IN ({', '.join(str(int(w)) for w in writers)})")
    return " AND ".join(conditions)
