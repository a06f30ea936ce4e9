"""SQL for which metrics a run with a history of its own has, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from runyard_server.storage.clickhouse.points_read_sql import Span
from runyard_server.storage.clickhouse.points_scoped_sql import counts_sql, parts_of, source_sql
from runyard_server.storage.ports.points import Scope

NAME_MATCHES: Final = (
    "({text:String} = '' OR positionCaseInsensitiveUTF8(metric_name, {text:String}) > 0)"
)
UNSURE_NAMED_MAX: Final = 2_000
"""Metrics that one statement names, at about 21 bytes each, once for every part of the history."""
_KEY: Final = "toInt128(step) * 4294967296 + writer"
"""Orders points as the pair (step, writer) does, in a third of the time."""


def unsure_sql(run: int, scope: Scope, metrics: Sequence[int]) -> str:
    """Returns the SQL for the metrics of which neither the first nor the last point counts: their points must tell."""
    return f"SELECT metric FROM ({_known_sql(run, scope, metrics)}\n) WHERE NOT is_sure"


def names_sql(
    run: int, scope: Scope, metrics: Sequence[int], *, unsure: Sequence[int], limit: int | None
) -> str:
    """Returns the SQL for a page of metrics by name, and how many match {text} in all; of `unsure` those that have points.

    The page begins after the name {after}. A statement is bounded in length: of very many unsure ones all points are looked at.
    """
    some = unsure if len(unsure) <= UNSURE_NAMED_MAX else ()
    present = f"SELECT metric FROM ({source_sql(run, scope, some, Span())}\n)"
    or_present = f" OR metric IN ({present})" if unsure else ""
    known = f"SELECT metric, metric_name FROM ({_known_sql(run, scope, metrics)}\n) WHERE (is_sure{or_present}) AND {NAME_MATCHES}"
    cut = "" if limit is None else f" LIMIT {limit}"
    return (
        f"WITH matching AS ({known})"
        "\nSELECT metric, metric_name, (SELECT count() FROM matching) AS total FROM matching"
        "\nWHERE metric_name > {after:String} OR {after:String} = ''"
        f"\nORDER BY metric_name{cut}"
    )


def long_metrics_sql(scope: Scope) -> str:
    """Returns the SQL for the metrics that have stored buckets."""
    return f"SELECT DISTINCT metric FROM rollups WHERE run IN ({_runs(scope)})"


def stats_sql(run: int, scope: Scope, metrics: Sequence[int], *, without: Sequence[int]) -> str:
    """Returns the SQL for first and last step and value, and range, of each metric, made from the points themselves."""
    source = source_sql(run, scope, metrics, Span())
    left_out = f" WHERE metric NOT IN ({_join(without)})" if without else ""
    return (
        "SELECT metric, toInt64(bitShiftRight(first_key, 32)) AS step_low, toInt64(bitShiftRight(last_key, 32)) AS step_high,"
        " first_value, last_value, last_time,"
        "\n    if(finite_count = 0, toFloat64('inf'), found_low) AS low, if(finite_count = 0, toFloat64('-inf'), found_high) AS high"
        "\nFROM (SELECT metric, min(key) AS first_key, max(key) AS last_key, argMin(value, key) AS first_value,"
        "\n    argMax(value, key) AS last_value, argMax(time, key) AS last_time, countIf(isFinite(value)) AS finite_count,"
        "\n    minIf(value, isFinite(value)) AS found_low, maxIf(value, isFinite(value)) AS found_high"
        f"\nFROM (SELECT metric, time, value, {_KEY} AS key FROM ({source}\n){left_out}) GROUP BY metric)"
    )


def first_values_sql(run: int, scope: Scope, first_steps: Iterable[tuple[int, int]]) -> str:
    """Returns the SQL for the first value of metrics whose first steps stand beside them."""
    return "\nUNION ALL".join(
        f"\nSELECT toUInt64({metric}) AS metric, argMin(value, {_KEY}) AS first_value"
        f" FROM ({source_sql(run, scope, (metric,), Span(step, step + 1))}\n)"
        for metric, step in first_steps
    )


def _known_sql(run: int, scope: Scope, metrics: Sequence[int]) -> str:
    """Returns the query for the metrics of all parts, and whether a point of theirs is known to count."""
    some = f" AND metric IN ({_join(metrics)})" if metrics else ""
    sure = " OR ".join(
        f"({counts_sql(part, scope.writers, step=f'{point}.1', writer=f'{point}.2')})"
        for part in parts_of(scope)
        for point in ("first_point", "last_point")
    )
    return (
        "\nSELECT metric, any(name) AS metric_name, max(is_counted) AS is_sure FROM ("
        f"\n    SELECT run, metric, name, {sure} AS is_counted FROM ("
        "\n        SELECT run, metric, any(name) AS name, min(first) AS first_point, max(last) AS last_point"
        f"\n        FROM series WHERE run IN ({_runs(scope)}){some} GROUP BY run, metric)"
        "\n) GROUP BY metric"
    )


def _runs(scope: Scope) -> str:
    return _join(sorted({int(part.run_key) for part in parts_of(scope)}))


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(str(int(number)) for number in numbers)
