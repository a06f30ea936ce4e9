"""Summaries: what a run's script set, and for other metrics what their definitions say; pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from runyard_server.domain.run import MetricDefinition
from runyard_server.storage.ports.points import MetricStats, SummaryEntry

_INTEGER_MAX = 2**53
_PLAIN = frozenset({"last", "copy"})
_NAMED = ("last", "min", "max", "mean", "first", "best")
"""Kinds that get a key of their own, `metric.kind`, in the order shown."""


@dataclass(frozen=True, slots=True)
class SummaryRules:
    """The metric definitions of a run, ready for look-up."""

    exact: Mapping[str, MetricDefinition]
    globs: tuple[tuple[re.Pattern[str], MetricDefinition], ...]

    def find(self, metric: str) -> MetricDefinition | None:
        """Returns the definition of a metric: its own, else that of the last glob that matches."""
        found = self.exact.get(metric)
        if found is not None:
            return found
        for pattern, definition in self.globs:
            if pattern.fullmatch(metric):
                return definition
        return None


def read_rules(definitions: Iterable[MetricDefinition]) -> SummaryRules:
    """Returns the definitions, the later of two with one name winning."""
    exact: dict[str, MetricDefinition] = {}
    globs: dict[str, MetricDefinition] = {}
    for definition in definitions:
        is_glob = any(c in definition.name for c in "*?")
        (globs if is_glob else exact)[definition.name] = definition
    ordered = tuple((_glob_pattern(name), globs[name]) for name in reversed(globs))
    return SummaryRules(exact=exact, globs=ordered)


def summary_kinds(rules: SummaryRules, metric: str) -> tuple[str, ...]:
    """Returns what the summary holds of a metric: () for nothing, ("last",) for the plain last value.

    Any other tuple names kinds, each shown under the key `metric.kind`.
    """
    definition = rules.find(metric)
    if definition is None or not definition.summaries:
        return ("last",)
    asked = frozenset(definition.summaries)
    if "none" in asked:
        return ()
    if asked <= _PLAIN:
        return ("last",)
    if "copy" in asked:
        asked |= {"last"}
    return tuple(kind for kind in _NAMED if kind in asked)


def needs_mean(rules: SummaryRules, metric: str) -> bool:
    """Says whether the summary of a metric holds its mean, which costs a read of the series."""
    return "mean" in summary_kinds(rules, metric)


def compose_summary(
    rules: SummaryRules,
    stats: Sequence[MetricStats],
    means: Mapping[str, float],
    entries: Sequence[SummaryEntry],
) -> dict[str, str]:
    """Returns the summary, key by key, as extended JSON texts; what the script set itself wins."""
    summary: dict[str, str] = {}
    for one in stats:
        kinds = summary_kinds(rules, one.name)
        if kinds == ("last",):
            summary[one.name] = float_to_json(one.last)
            continue
        for kind in kinds:
            value = _VALUES[kind](one, means.get(one.name, math.nan), rules)
            summary[f"{one.name}.{kind}"] = float_to_json(value)
    for entry in entries:
        summary[entry.key] = entry.value_json
    return summary


def object_to_json(members: Mapping[str, str]) -> str:
    """Returns one JSON object, keys sorted, of members whose values are JSON texts already."""
    return "{" + ",".join(f"{_quote(key)}:{members[key]}" for key in sorted(members)) + "}"


def float_to_json(value: float) -> str:
    """Returns the value as extended JSON: an integer where it is one, exactly."""
    if math.isnan(value):
        return '{"$float":"NaN"}'
    if math.isinf(value):
        return '{"$float":"Infinity"}' if value > 0 else '{"$float":"-Infinity"}'
    is_negative_zero = value == 0 and math.copysign(1, value) < 0
    if abs(value) <= _INTEGER_MAX and value == int(value) and not is_negative_zero:
        return str(int(value))
    return repr(value)


def metrics_of_key(key: str) -> tuple[str, ...]:
    """Returns the metrics that a summary key may come from: `loss.min` is a metric or the minimum of `loss`."""
    name, dot, kind = key.rpartition(".")
    return (key, name) if dot and name and kind in _NAMED else (key,)


def select_keys(summary: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Returns the asked members that are there."""
    return {key: summary[key] for key in keys if key in summary}


def _best(stats: MetricStats, _mean: float, rules: SummaryRules) -> float:
    definition = rules.find(stats.name)
    return stats.high if definition is not None and definition.goal == "maximize" else stats.low


_VALUES: Mapping[str, Callable[[MetricStats, float, SummaryRules], float]] = {
    "last": lambda stats, _mean, _rules: stats.last,
    "min": lambda stats, _mean, _rules: stats.low,
    "max": lambda stats, _mean, _rules: stats.high,
    "mean": lambda _stats, mean, _rules: mean,
    "first": lambda stats, _mean, _rules: stats.first,
    "best": _best,
}


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@lru_cache(maxsize=1024)
def _glob_pattern(glob: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in glob), re.DOTALL)
