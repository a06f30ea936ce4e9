"""log(): steps as users.md says, values of every kind, clear errors, reentrancy and threads."""

from __future__ import annotations

import ctypes
import decimal
import fractions
import json
import math
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard import journal_format as form
from runyard.journal import SCHEMA_COUNT_MAX, JournalWriter
from runyard.journal_reader import JournalReader
from runyard.metric_log import MetricLog


class Recorder:
    """A MetricLog on a real journal, and what is in it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.notes: list[str] = []
        self.journal = JournalWriter(folder, is_synced=False)
        self.metrics = MetricLog(self.journal, self.note, time_ns=lambda: 7)
        self.log = self.metrics.log

    def note(self, key: str, text: str) -> None:
        self.notes.append(key)

    def rows(self) -> list[tuple[int, dict[str, float]]]:
        reader = JournalReader.open(self.folder)
        frames = [frame for frame in reader.frames() if frame.kind == form.ROW]
        return [(frame.step, dict(zip(frame.names, frame.values, strict=True))) for frame in frames]

    def merged(self) -> dict[int, dict[str, float]]:
        """Returns what the store makes of the rows: of each metric and step, the last value."""
        merged: dict[int, dict[str, float]] = {}
        for step, values in self.rows():
            merged.setdefault(step, {}).update(values)
        return merged


def kind_of(value: object) -> str:
    """Returns the name of a case: the same in every process, as tests that run side by side need it."""
    return type(value).__name__


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "journal")


def test_calls_without_a_step_count_up(recorder: Recorder) -> None:
    """Each call without a step closes its step."""
    for value in (1.0, 2.0, 3.0):
        recorder.log({"a": value})
    assert recorder.rows() == [(0, {"a": 1.0}), (1, {"a": 2.0}), (2, {"a": 3.0})]
    assert recorder.metrics.step == 3


def test_commit_false_keeps_the_step_open(recorder: Recorder) -> None:
    """Rows of an open step are written at once (they survive a crash) and merge in the store."""
    recorder.log({"a": 1.0}, commit=False)
    recorder.log({"b": 2.0, "a": 3.0})
    recorder.log({"a": 4.0})
    assert recorder.merged() == {0: {"a": 3.0, "b": 2.0}, 1: {"a": 4.0}}
    assert len(recorder.rows()) == 3


def test_a_higher_step_opens_and_the_same_step_merges(recorder: Recorder) -> None:
    """An explicit step stays open until a higher one, a call without one, or commit=True."""
    recorder.log({"a": 1.0}, step=5)
    recorder.log({"b": 2.0}, step=5)
    recorder.log({"c": 3.0})
    recorder.log({"a": 9.0}, step=9, commit=True)
    recorder.log({"a": 10.0})
    assert recorder.merged() == {5: {"a": 1.0, "b": 2.0, "c": 3.0}, 9: {"a": 9.0}, 10: {"a": 10.0}}


def test_a_lower_step_is_late_data(recorder: Recorder) -> None:
    """A smaller step is kept at that step, noted once, and does not move the current one."""
    recorder.log({"a": 1.0}, step=100)
    recorder.log({"eval": 5.0}, step=10)
    recorder.log({"eval": 6.0}, step=20, commit=True)
    recorder.log({"a": 2.0})
    assert recorder.merged() == {100: {"a": 2.0}, 10: {"eval": 5.0}, 20: {"eval": 6.0}}
    assert set(recorder.notes) == {"late_step"}


def test_empty_rows_are_never_written(recorder: Recorder) -> None:
    """log({}) writes nothing; with a step it moves the current one, without one it closes it."""
    recorder.log({})
    recorder.log({}, step=7)
    recorder.log({"a": 1.0})
    assert recorder.rows() == [(7, {"a": 1.0})]


class StepModel:
    """The rules of users.md 5.7 with late data kept, in the fewest words."""

    def __init__(self) -> None:
        self.current = 0
        self.merged: dict[int, dict[str, float]] = {}

    def log(self, data: dict[str, float], step: int | None, commit: bool | None) -> None:
        is_late = step is not None and step < self.current
        if step is not None and not is_late:
            self.current = step
        at = step if step is not None and is_late else self.current
        if data:
            self.merged.setdefault(at, {}).update(data)
        if not is_late and (commit or (commit is None and step is None)):
            self.current += 1


@given(
    calls=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), st.floats(allow_nan=False), max_size=3),
            st.one_of(st.none(), st.integers(-3, 12)),
            st.sampled_from([None, True, False]),
        ),
        max_size=25,
    )
)
def test_steps_follow_the_model(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[Any, Any, Any]]
) -> None:
    """Any sequence of calls gives the steps and merged values that the rules give."""
    recorder, model = Recorder(tmp_path_factory.mktemp("j")), StepModel()
    for data, step, commit in calls:
        recorder.log(data, step, commit)
        model.log(data, step, commit)
        assert recorder.metrics.step == model.current
    assert recorder.merged() == model.merged


@pytest.mark.parametrize(
    "step",
    [
        1.5,
        "3",
        True,
        np.bool_(True),
        np.array(False),
        object(),
        math.nan,
        math.inf,
        None.__class__,
        [1],
    ],
)
def test_steps_that_are_no_integers_are_refused(recorder: Recorder, step: Any) -> None:
    """A step that is no integer is a TypeError that names it; nothing is written."""
    for data in ({"a": 1.0}, {"b": "text-free"[:0] or 1}):
        with pytest.raises(TypeError, match="step is"):
            recorder.log(data, step=step)
    assert recorder.rows() == []


@pytest.mark.parametrize("step", [np.int64(3), np.int32(3), 3.0, np.float64(3.0), np.array(3)])
def test_integers_of_other_kinds_are_steps(recorder: Recorder, step: Any) -> None:
    """NumPy integers, and floats without a fraction, are steps."""
    recorder.log({"a": 1.0}, step=step)
    recorder.log({"a": 2.0}, step=step)
    assert recorder.merged() == {3: {"a": 2.0}}


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1, 10**30])
def test_steps_beyond_64_bits_are_refused(recorder: Recorder, step: int) -> None:
    """A step must fit 64 bits, in the first call of a key set and in later ones; the run goes on where it was."""
    for call in range(3):
        with pytest.raises(ValueError, match="64 bits"):
            recorder.log({"a": 1.0}, step=step)
        recorder.log({"a": 1.0})
        assert recorder.metrics.step == call + 1
    assert recorder.rows() == [(0, {"a": 1.0}), (1, {"a": 1.0}), (2, {"a": 1.0})]


def test_no_step_follows_the_last_one(recorder: Recorder) -> None:
    """After the highest step a call without a step says that there is none left; late data is still taken."""
    recorder.log({"a": 1.0}, step=2**63 - 1, commit=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="64 bits"):
            recorder.log({"a": 2.0})
    recorder.log({"a": 3.0}, step=5)
    assert recorder.merged() == {2**63 - 1: {"a": 1.0}, 5: {"a": 3.0}}


def test_keys_of_rows_are_noted_once(recorder: Recorder) -> None:
    """A metric called like a key that every row has is kept, with one note."""
    recorder.log({"_step": 7, "a": 1.0})
    recorder.log({"_timestamp": 7, "a": 1.0})
    assert recorder.rows()[0] == (0, {"_step": 7.0, "a": 1.0})
    assert set(recorder.notes) == {"row_key"}


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


@given(pattern=st.integers(0, 2**64 - 1))
def test_values_keep_every_bit(tmp_path_factory: pytest.TempPathFactory, pattern: int) -> None:
    """Any 64-bit float comes back bit by bit: NaN payloads, infinities, -0.0, subnormals."""
    value = struct.unpack("<d", struct.pack("<Q", pattern))[0]
    recorder = Recorder(tmp_path_factory.mktemp("j"))
    recorder.log({"a": value})
    recorder.log({"nested": {"a": value}})
    assert [bits(v) for _, row in recorder.rows() for v in row.values()] == [bits(value)] * 2


class Tensor:
    """What torch's tensors look like from here: item(), shape, a dtype without a kind."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.shape = () if len(values) == 1 else (len(values),)
        self.dtype = object()

    def item(self) -> float:
        if len(self.values) != 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.values[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (3, 3.0),
        (np.float16(0.5), 0.5),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.25), 0.25),
        (np.int8(-3), -3.0),
        (np.uint64(2**53), 2.0**53),
        (np.bool_(True), 1.0),
        (np.array(1.5, dtype=np.float16), 1.5),
        (np.array([2.5]), 2.5),
        (decimal.Decimal("0.125"), 0.125),
        (fractions.Fraction(1, 4), 0.25),
        (Tensor([0.75]), 0.75),
        (10**400, math.inf),
        (-(10**400), -math.inf),
    ],
    ids=kind_of,
)
def test_numbers_of_every_library_are_values(
    recorder: Recorder, value: Any, expected: float
) -> None:
    """bool, int, float, NumPy and torch scalars, 0-d arrays, decimals and fractions are numbers."""
    recorder.log({"a": value})
    recorder.log({"a": 0.0, "b": {"c": value}})
    assert recorder.rows() == [(0, {"a": expected}), (1, {"a": 0.0, "b.c": expected})]


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_half_precision_nan_is_kept(recorder: Recorder, kind: Any) -> None:
    """NaN and infinities of narrow floats are NaN and infinities."""
    for value in (math.nan, math.inf, -math.inf):
        recorder.log({"a": kind(value)})
    found = [row["a"] for _, row in recorder.rows()]
    assert math.isnan(found[0]) and found[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    "value",
    [
        "text",
        None,
        b"bytes",
        [1.0],
        (1, 2),
        {1, 2},
        1j,
        np.complex128(1j),
        np.array([1.0, 2.0]),
        np.array("3.0"),
        np.str_("3.0"),
        np.datetime64("2026-01-01"),
        Tensor([1.0, 2.0]),
        object(),
        float,
        ctypes.c_double,
    ],
    ids=kind_of,
)
def test_values_of_other_kinds_are_refused(recorder: Recorder, value: Any) -> None:
    """What is no number is a TypeError that names key and type, and nothing of the call is written."""
    with pytest.raises(TypeError) as caught:
        recorder.log({"good": 1.0, "bad/key": value})
    assert "'bad/key'" in str(caught.value) and type(value).__name__ in str(caught.value)
    recorder.log({"good": 1.0})
    assert recorder.rows() == [(0, {"good": 1.0})]


def test_big_integers_are_noted_once(recorder: Recorder) -> None:
    """An int beyond 2^53 becomes the nearest float, with one note; 2^53 itself needs none."""
    recorder.log({"a": 2**53, "b": 1.0})
    assert recorder.notes == []
    recorder.log({"a": 2**53 + 1, "b": 1.0})
    assert recorder.rows()[1] == (1, {"a": float(2**53 + 1), "b": 1.0})
    assert recorder.notes == ["big_int"]


def test_integers_beyond_every_float_are_infinite(recorder: Recorder) -> None:
    """An int of thousands of digits is kept as infinity, even where Python refuses to write it out."""
    recorder.log({"a": 10**5000, "b": -(10**400)})
    assert recorder.rows() == [(0, {"a": math.inf, "b": -math.inf})]
    with pytest.raises(ValueError, match="64 bits"):
        recorder.log({"a": 1.0}, step=10**5000)


def test_nested_dicts_are_flattened(recorder: Recorder) -> None:
    """Names of nested values are joined with dots; empty dicts give nothing."""
    recorder.log({"train": {"loss": 1, "acc": {"top1": 0.5}}, "empty": {}, "lr": 0.1})
    assert recorder.rows() == [(0, {"train.loss": 1.0, "train.acc.top1": 0.5, "lr": 0.1})]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("", ValueError), ("a\nb", ValueError), ("\x00", ValueError), ("x" * 513, ValueError),
     ("é" * 257, ValueError), ("\ud800", ValueError), (3, TypeError), (None, TypeError), (("a",), TypeError)],
)  # fmt: skip
def test_names_that_cannot_be_are_refused(
    recorder: Recorder, name: Any, kind: type[Exception]
) -> None:
    """Names are strings of 1 to 512 bytes without control characters."""
    with pytest.raises(kind, match=r"log\(\): the name"):
        recorder.log({name: 1.0})
    assert recorder.rows() == []


@pytest.mark.parametrize("name", ["x" * 512, "é" * 256, "val/loss @ k=3", "损失", "🙂", " "])
def test_names_that_can_be_are_kept(recorder: Recorder, name: str) -> None:
    """Any other text is a name."""
    recorder.log({name: 1.0})
    assert recorder.rows() == [(0, {name: 1.0})]


@pytest.mark.parametrize("data", [None, 3, "a", [("a", 1)], object()])
def test_data_must_be_a_dict(recorder: Recorder, data: Any) -> None:
    """log() takes a dict and says so."""
    with pytest.raises(TypeError, match="takes a dict"):
        recorder.log(data)


def test_the_order_of_keys_makes_no_difference(recorder: Recorder) -> None:
    """Each order is a key set of its own, and reads the same."""
    recorder.log({"a": 1.0, "b": 2.0})
    recorder.log({"b": 3.0, "a": 4.0})
    assert recorder.merged() == {0: {"a": 1.0, "b": 2.0}, 1: {"a": 4.0, "b": 3.0}}


def test_more_key_sets_than_are_kept(recorder: Recorder) -> None:
    """With more key sets than the cache holds, every row and every last value is kept."""
    count = SCHEMA_COUNT_MAX + 10
    for number in range(count):
        recorder.log({f"m{number}": float(number)})
    recorder.log({"m0": -1.0})
    assert len(recorder.rows()) == count + 1
    last = recorder.metrics.last_values()
    assert len(last) == count and last["m0"] == -1.0 and last[f"m{count - 1}"] == count - 1
    assert recorder.metrics.last_value("m1") == 1.0


def test_last_values_are_those_of_the_last_call(recorder: Recorder) -> None:
    """Over key sets, the later call wins."""
    recorder.log({"a": 1.0, "b": 1.0})
    recorder.log({"a": 2.0})
    assert recorder.metrics.last_values() == {"a": 2.0, "b": 1.0}
    assert recorder.metrics.last_value("a") == 2.0
    assert recorder.metrics.last_value("none") is None


def test_threads_lose_nothing(recorder: Recorder) -> None:
    """Rows of many threads are all kept, each at a step of its own."""

    def work(number: int) -> None:
        for i in range(500):
            recorder.log({f"t{number % 2}": float(i)})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = [step for step, _ in recorder.rows()]
    assert sorted(steps) == list(range(4000))


def test_a_call_inside_a_call_waits_its_turn(tmp_path: Path) -> None:
    """log() from a signal handler or finalizer in the middle of log() is written right after, at its own step."""
    recorder = Recorder(tmp_path / "journal")
    called: list[str] = []

    def clock() -> int:
        if len(called) < 2:  # the clock is read in the middle of a row
            called.append("x")
            recorder.log({"inner": 1.0} if len(called) == 1 else {"new": {"inner": 2.0}})
            recorder.metrics.call_soon(lambda: called.append("soon"))
        return 7

    recorder.log({"inner": 0.0, "warm": 1.0}, step=0)
    recorder.metrics._time_ns = clock
    recorder.log({"outer": 1.0}, step=5)
    recorder.log({"outer": 2.0}, step=5)
    assert called.count("soon") == 2
    assert recorder.merged() == {
        0: {"inner": 0.0, "warm": 1.0},
        5: {"outer": 2.0, "inner": 1.0},
        6: {"new.inner": 2.0},
    }


def test_histories_are_thinned_in_step_order(recorder: Recorder) -> None:
    """A sparkline's values are a few of all, in step order, over all key sets, late data in its place."""
    for step in range(1000):
        recorder.log({"a": float(step), "b": 0.0})
    recorder.log({"a": -1.0}, step=-5)
    history = recorder.metrics.histories(["a"])["a"]
    assert history[0] == -1.0 and history[1] == 0.0 and history[-1] == 999.0
    assert history == sorted(history) and 40 <= len(history) <= 100


def test_schemas_are_json(recorder: Recorder) -> None:
    """Names go into the journal as UTF-8."""
    recorder.log({"é/名": 1.0})
    frames = list(JournalReader.open(recorder.folder).frames())
    assert json.loads(frames[0].payload.decode()) == ["é/名"]
