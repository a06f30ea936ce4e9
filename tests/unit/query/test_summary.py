"""Summaries: the script's own entries win, definitions decide the rest, last by default."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.run import MetricDefinition
from runyard_server.query.config_keys import select_config
from runyard_server.query.summary import (
    compose_summary,
    float_to_json,
    metrics_of_key,
    needs_mean,
    object_to_json,
    read_rules,
    select_keys,
)
from runyard_server.storage.ports.points import MetricStats, SummaryEntry


def stats(name: str) -> MetricStats:
    return MetricStats(
        name=name, first_step=0, last_step=9, first=4.5, last=2.5, low=1.5, high=8.5, last_time_unix_ns=0
    )  # fmt: skip


def summary_of(*definitions: MetricDefinition, metric: str = "val/loss") -> dict[str, object]:
    found = compose_summary(read_rules(definitions), [stats(metric)], {metric: 3.25}, [])
    return dict(json.loads(object_to_json(found)))


def test_the_last_value_is_the_default() -> None:
    """A metric without a definition shows its last value under its own name."""
    assert summary_of() == {"val/loss": 2.5}


@pytest.mark.parametrize(
    ("summaries", "expected"),
    [
        ((), {"val/loss": 2.5}),
        (("last",), {"val/loss": 2.5}),
        (("copy",), {"val/loss": 2.5}),
        (("none",), {}),
        (("min",), {"val/loss.min": 1.5}),
        (("max", "min"), {"val/loss.min": 1.5, "val/loss.max": 8.5}),
        (("last", "mean"), {"val/loss.last": 2.5, "val/loss.mean": 3.25}),
        (("first", "best"), {"val/loss.first": 4.5, "val/loss.best": 1.5}),
        (("min", "none"), {}),
    ],
)
def test_definitions_decide(summaries: tuple[str, ...], expected: dict[str, float]) -> None:
    """Each kind of summary has its key; "none" leaves the metric out."""
    assert expected == summary_of(MetricDefinition("val/loss", summaries=summaries))


def test_best_follows_the_goal() -> None:
    """The best is the highest where the goal is to maximize, else the lowest."""
    best = MetricDefinition("val/loss", summaries=("best",), goal="maximize")
    assert summary_of(best) == {"val/loss.best": 8.5}


def test_an_exact_name_beats_globs_and_the_later_glob_the_earlier() -> None:
    """The metric's own definition wins; of globs the one defined last; `*` crosses slashes."""
    any_min, val_max = (
        MetricDefinition("*", summaries=("min",)),
        MetricDefinition("val/l?ss", summaries=("max",)),
    )
    assert summary_of(any_min, val_max) == {"val/loss.max": 8.5}
    assert summary_of(val_max, any_min) == {"val/loss.min": 1.5}
    own = MetricDefinition("val/loss", summaries=("first",))
    assert summary_of(own, any_min, val_max) == {"val/loss.first": 4.5}
    assert summary_of(MetricDefinition("val/[a]*"), metric="val/[x]") == {"val/[x]": 2.5}


def test_what_the_script_set_wins() -> None:
    """An explicit entry replaces what the metric would show."""
    entries = [SummaryEntry("loss", '{"$float":"NaN"}'), SummaryEntry("note", '"ok"')]
    found = compose_summary(read_rules([]), [stats("loss"), stats("acc")], {}, entries)
    expected = {"loss": {"$float": "NaN"}, "note": "ok", "acc": 2.5}
    assert expected == json.loads(object_to_json(found))


def test_only_a_mean_asks_for_a_read() -> None:
    """Means are the one kind that needs the points."""
    rules = read_rules([MetricDefinition("a*", summaries=("mean", "last"))])
    assert needs_mean(rules, "acc") and not needs_mean(rules, "loss")


@given(st.floats())
def test_values_survive_as_extended_json(value: float) -> None:
    """Any float comes back as the same number; what JSON cannot say is a $float object."""
    decoded = json.loads(float_to_json(value))
    if isinstance(decoded, dict):
        decoded = float(decoded["$float"])
    assert math.isnan(value) if math.isnan(decoded) else decoded == value
    assert math.copysign(1, decoded) == math.copysign(1, value) or math.isnan(value)


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (-2.0, "-2"), (-0.0, "-0.0"), (0.5, "0.5")]
)
def test_whole_numbers_are_written_as_such(value: float, text: str) -> None:
    """An epoch logged as 3 shows as 3."""
    assert text == float_to_json(value)


def test_a_key_may_name_a_kind() -> None:
    """`loss.min` may be a metric of that name or the minimum of `loss`."""
    assert metrics_of_key("loss.min") == ("loss.min", "loss")
    assert metrics_of_key("loss.x") == ("loss.x",)
    assert select_keys({"a": "1", "b": "2"}, ["b", "c"]) == {"b": "2"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], ""),
        (["*"], '{"a": {"b.c": 1, "d": [2]}, "a.d": 18446744073709551615}'),
        (["a.b.c"], '{"a.b.c":1}'),
        (["a.d"], '{"a.d":18446744073709551615}'),
        (["a", "zzz"], '{"a":{"b.c":1,"d":[2]}}'),
    ],
)
def test_config_keys_are_picked_by_path(keys: list[str], expected: str) -> None:
    """Keys are dotted paths; a key that holds dots itself is found; integers stay exact; "*" is the text as stored."""
    config = '{"a": {"b.c": 1, "d": [2]}, "a.d": 18446744073709551615}'
    assert expected == select_config(config, keys)
