"""Extended JSON: what it takes, what it refuses, and that values come back exactly."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.extended_json import merge_config, read_object, write_object

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = TEXT.filter(lambda key: key != "$float")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["NaN", "Infinity", "-Infinity"]).map(lambda name: {"$float": name})
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)


def read(text: str) -> dict[str, object]:
    return read_object(text, field="config_json", bytes_max=1_000_000)


@given(OBJECTS)
def test_objects_come_back(value: dict[str, object]) -> None:
    """Writing and reading is the identity: integers to 64 bits, floats bit by bit, keys in order."""
    text = write_object(value)
    back = read(text)
    assert value == back
    assert text == write_object(back)
    assert list(value) == list(back)


def test_minus_zero_and_small_floats_come_back() -> None:
    """-0.0 keeps its sign, subnormals their bits."""
    back = read(write_object({"z": -0.0, "s": 5e-324}))
    assert math.copysign(1, back["z"]) == -1  # type: ignore[arg-type]  # a float
    assert back["s"] == 5e-324


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        "{",
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e400}',
        '{"a":18446744073709551616}',
        '{"a":-9223372036854775809}',
        '{"a":' + "9" * 10_000 + "}",
        '{"a":{"$float":"nan"}}',
        '{"a":{"$float":[1]}}',
        '{"a":{"$float":"NaN","b":1}}',
        '{"a":"\\ud800"}',
        '{"\\udfff":1}',
        '{"a":' + "[" * 65 + "]" * 65 + "}",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_what_is_no_extended_json_is_refused(text: str) -> None:
    """Refused with FIELD_INVALID, whatever is wrong; never another error."""
    with pytest.raises(InvalidArgument) as caught:
        read(text)
    assert caught.value.reason == "FIELD_INVALID"


def test_size_is_bounded() -> None:
    """The limit is in bytes of UTF-8, exact at the limit."""
    text = '{"a":"ü"}'
    assert read_object(text, field="f", bytes_max=10) == {"a": "ü"}
    with pytest.raises(InvalidArgument) as caught:
        read_object(text, field="f", bytes_max=9)
    assert (
        caught.value.reason,
        caught.value.metadata["value"],
        caught.value.metadata["limit"],
    ) == ("FIELD_TOO_LARGE", "10", "9")


@given(OBJECTS, OBJECTS, st.lists(KEYS, max_size=3))
def test_a_merge_sets_and_removes_top_level_keys(
    old: dict[str, object], new: dict[str, object], removed: list[str]
) -> None:
    """Changes win over removals; everything else stays."""
    merged = merge_config(old, changes=new, removed_keys=removed)
    expected = {**{k: v for k, v in old.items() if k not in removed}, **new}
    assert expected == merged
    assert json.loads(write_object(merged)) == merged
