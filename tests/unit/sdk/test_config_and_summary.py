"""run.config and run.summary: both ways of access, every kind of source, every change told."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import enum
import json
import math
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard import extended_json
from runyard.run_config import Config, config_fields
from runyard.run_summary import Summary


@pytest.fixture
def changes() -> list[tuple[dict[str, Any], list[str]]]:
    return []


@pytest.fixture
def config(changes: list[Any]) -> Config:
    return Config(
        on_change=lambda changed, removed: changes.append((copy.copy(changed), list(removed)))
    )


def test_attributes_are_items(config: Config, changes: list[Any]) -> None:
    """config.x and config["x"] are one thing."""
    config.lr = 0.1
    config["epochs"] = 3
    assert (config["lr"], config.epochs, config.get("none"), "lr" in config) == (0.1, 3, None, True)
    assert dict(config) == {"lr": 0.1, "epochs": 3}
    assert changes == [({"lr": 0.1}, []), ({"epochs": 3}, [])]
    with pytest.raises(AttributeError, match=r"'none'.*lr, epochs"):
        _ = config.none


def test_changes_of_nested_dicts_are_told(config: Config, changes: list[Any]) -> None:
    """A change anywhere below a key is told as a change of that key, whole."""
    config.update({"model": {"layers": 2, "opt": {"lr": 0.1}}})
    config["model"]["layers"] = 3
    config.model.opt.lr = 0.2
    del config.model["layers"]
    assert [changed for changed, _ in changes][-1] == {"model": {"opt": {"lr": 0.2}}}
    assert len(changes) == 4
    assert json.dumps(config) == '{"model": {"opt": {"lr": 0.2}}}'


def test_dict_methods_are_told(config: Config, changes: list[Any]) -> None:
    """Every way of changing a dict is recorded."""
    config.update({"a": 1}, b=2)
    config.update({"a": 5}, allow_val_change=True)
    config.setdefaults({"a": 9, "c": 3})
    assert config.setdefault("d", 4) == 4
    assert config.pop("a") == 5
    assert config.pop("none", 7) == 7
    del config.b
    config |= {"e": 6}
    assert config.as_dict() == {"c": 3, "d": 4, "e": 6}
    config.clear()
    assert changes[-1] == ({}, ["c", "d", "e"])
    assert len(changes) == 8


@pytest.mark.parametrize("depth", [500, 100_000])
def test_nesting_without_end_is_no_trouble(config: Config, depth: int) -> None:
    """What is nested too deep is kept as text, whatever its depth."""
    values: dict[str, Any] = {}
    for _ in range(depth):
        values = {"a": values}
    config.update({"deep": values})
    notes: list[str] = []
    text = extended_json.dumps(
        extended_json.plain(config, note=lambda key, text: notes.append(key))
    )
    assert text.startswith('{"deep":{"a":{"a":') and len(text) < 10_000 and set(notes) == {"depth"}


def test_a_config_can_be_copied_and_sent(config: Config) -> None:
    """Copies and pickles are plain dicts: they tell no run of their changes."""
    config.update({"a": {"b": 1}})
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert type(twin) is dict and twin == {"a": {"b": 1}}


@dataclasses.dataclass
class Options:
    lr: float = 0.1
    name: str = "x"


class Point(NamedTuple):
    x: int
    y: int


class Flags:
    def flag_values_dict(self) -> dict[str, Any]:
        return {"lr": 0.1, "name": "x"}


class OmegaLike:
    def keys(self) -> list[str]:
        return ["lr", "name"]

    def __getitem__(self, key: str) -> Any:
        return {"lr": 0.1, "name": "x"}[key]


class Plain:
    def __init__(self) -> None:
        self.lr, self.name, self._hidden = 0.1, "x", 1


@pytest.mark.parametrize(
    "source",
    [
        {"lr": 0.1, "name": "x"},
        argparse.Namespace(lr=0.1, name="x"),
        Options(),
        Flags(),
        OmegaLike(),
        Plain(),
    ],
    ids=lambda source: type(source).__name__,
)
def test_configs_come_in_many_kinds(source: Any) -> None:
    """dicts, argparse, dataclasses, absl flags, OmegaConf-like and plain objects are configs."""
    assert config_fields(source) == {"lr": 0.1, "name": "x"}


@pytest.mark.parametrize("source", [3, "config.yaml", [1], Options])
def test_what_names_no_values_is_no_config(source: Any) -> None:
    """Anything else is a TypeError that says what a config is."""
    with pytest.raises(TypeError, match="config is of type"):
        config_fields(source)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (np.int64(7), 7),
        (np.float16(0.5), 0.5),
        (np.array([[1, 2]]), [[1, 2]]),
        ((1, "a", None), [1, "a", None]),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Colour.RED, "red"),
        (Path("a/b"), str(Path("a/b"))),
        (b"raw", "raw"),
        ({1: {2.5: True}}, {"1": {"2.5": True}}),
        (np.zeros(100_000), str(np.zeros(100_000))),
        (list(range(20_000)), list(range(10_000))),
        ("\ud800", "?"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    """Whatever a script puts into a config can be written."""
    found = extended_json.plain(value)
    assert found == expected
    assert extended_json.loads(extended_json.dumps(found)) == expected


def test_integers_beyond_64_bits_are_noted() -> None:
    """They become floats, and somebody is told."""
    told: list[str] = []
    assert extended_json.plain(2**64, note=lambda key, text: told.append(key)) == float(2**64)
    assert told == ["int64"]


def test_values_without_end_are_cut() -> None:
    """A dict that holds itself does not hang or overflow."""
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert len(extended_json.dumps(extended_json.plain(loop))) > 10


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@given(value=values)
def test_extended_json_comes_back(value: Any) -> None:
    """Extended JSON keeps every value, NaN and infinities too, and is strict JSON."""
    plain = extended_json.plain(value)
    text = extended_json.dumps(plain)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert same(extended_json.loads(text), plain)


class Logged:
    def __init__(self, values: dict[str, float]) -> None:
        self.values = values

    def last_values(self) -> dict[str, float]:
        return dict(self.values)

    def last_value(self, name: str) -> float | None:
        return self.values.get(name)

    def last_media(self) -> dict[str, dict[str, Any]]:
        return {}


def test_the_summary_shows_last_values_and_own_ones() -> None:
    """What the script sets stands over what was logged; nested keys are told flat."""
    changes: list[Any] = []
    summary = Summary(Logged({"loss": 0.5, "acc": 0.9}), lambda s, r: changes.append((dict(s), r)))
    assert (summary["loss"], summary.acc, len(summary)) == (0.5, 0.9, 2)
    summary["acc"] = 0.95
    summary.best = {"epoch": 3, "at": {"acc": 0.95}}
    summary.update({"note": "x"}, done=True)
    assert summary["acc"] == 0.95 and summary["best"]["epoch"] == 3
    assert sorted(summary) == ["acc", "best", "done", "loss", "note"]
    del summary["best"]
    assert changes == [
        ({"acc": 0.95}, []),
        ({"best.epoch": 3, "best.at.acc": 0.95}, []),
        ({"note": "x", "done": True}, []),
        ({}, ["best.epoch", "best.at.acc"]),
    ]
    with pytest.raises(AttributeError):
        _ = summary.none
    with pytest.raises(ValueError, match="control character"):
        summary["a\nb"] = 1
    assert "none" not in summary and summary.get("none") is None
