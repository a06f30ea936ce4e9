"""How a metric is drawn and summarised, as `define_metric` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from runyard.errors import InvalidArgument
from runyard.naming import metric_name_problem

SUMMARIES = ("last", "min", "max", "mean", "first", "best", "copy", "none")
GOALS = {
    "": "",
    "minimize": "minimize",
    "min": "minimize",
    "maximize": "maximize",
    "max": "maximize",
}


@dataclasses.dataclass(frozen=True)
class MetricDefinition:
    """How one metric, or all that match a glob, is treated; the fields of metadata.v1.MetricDefinition."""

    name: str
    step_metric: str = ""
    summaries: tuple[str, ...] = ()
    goal: str = ""
    is_hidden: bool = False


def make_definition(
    name: str,
    step_metric: Any,
    summary: str | Sequence[str] | None,
    goal: str | None,
    *,
    is_hidden: bool,
) -> MetricDefinition:
    """Returns the definition; raises InvalidArgument naming what cannot be and what can."""
    problem = metric_name_problem(name)
    if problem:
        raise InvalidArgument(
            f"define_metric(): the name {name!r} {problem}", reason="METRIC_NAME_INVALID"
        )
    axis = getattr(step_metric, "name", step_metric) or ""
    if axis and metric_name_problem(axis):
        raise InvalidArgument(
            f"define_metric(): step_metric {axis!r} {metric_name_problem(axis)}",
            reason="METRIC_NAME_INVALID",
        )
    parts = summary.split(",") if isinstance(summary, str) else list(summary or ())
    summaries = tuple(part.strip() for part in parts if part.strip())
    for part in summaries:
        if part not in SUMMARIES:
            raise InvalidArgument(
                f"define_metric(): summary {part!r} is not one of {', '.join(SUMMARIES)}",
                reason="FIELD_INVALID",
            )
    if (goal or "") not in GOALS:
        raise InvalidArgument(
            f"define_metric(): goal {goal!r} is neither minimize nor maximize",
            reason="FIELD_INVALID",
        )
    return MetricDefinition(name, axis, summaries, GOALS[goal or ""], is_hidden)
