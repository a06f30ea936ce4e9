"""What `log()` does: values become a row of numbers at a step, and the row goes into the journal at once."""

from __future__ import annotations

import json
import math
import struct
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable, Protocol

from runyard.errors import InvalidArgument
from runyard.journal import SCHEMA_COUNT_MAX, JournalWriter, RowSchema
from runyard.journal_format import STEP_MAX, STEP_MIN
from runyard.naming import metric_name_problem
from runyard.records import ROW_KEYS

EXACT_INT_MAX = 2**53
"""Integers up to this are exact as 64-bit floats."""
DEPTH_MAX = 32
METRIC_COUNT_MAX = 100_000
"""Metrics whose last value is remembered beyond their key set, for reading the summary."""

_FLOATS = frozenset({float})
_NUMBERS = frozenset({float, int, bool})

_DeferredCall = Callable[[], object]
_Row = tuple[dict[str, float], list[Any]]
"""Numbers under flat names, and the media beside them."""


class MediaSink(Protocol):
    """Takes what log() was given besides numbers."""

    @property
    def last(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns by name what was recorded last, for the summary."""

    def prepare(self, name: str, value: object) -> Any:
        """Returns the value, checked, if it is media, else None; raises Error for what cannot be logged. Records nothing."""

    def record(self, media: Sequence[Any], step: int, time_unix_ns: int) -> None:
        """Records what `prepare` returned; raises nothing."""


class MetricLog:
    """Gives rows their step and appends them to the journal; safe from any thread and from signal handlers.

    Steps, as in wandb but that late data is kept: a call without a step goes to the current step and closes it; a
    higher step opens that step and leaves it open; the current step again adds to it; a lower one is late data.
    """

    def __init__(
        self,
        journal: JournalWriter,
        note: Callable[[str, str], None],
        *,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.step = 0
        """The current step."""
        self.media: MediaSink | None = None
        """Takes media; without one they are refused."""
        self._open_step: int | None = None
        """The current step, if it has a row and was left open."""
        self._journal = journal
        self._append_row = journal.append_row
        self._lock = journal.lock
        self._note = note
        self._time_ns = time_ns
        self._schemas: dict[tuple[str, ...], RowSchema] = {}
        self._forgotten: dict[str, float] = {}
        self._is_busy = False
        self._deferred: deque[_DeferredCall] = deque()

    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Appends the values at a step. Raises TypeError or InvalidArgument for what is no metric; nothing is kept then."""
        try:
            schema = self._schemas[tuple(data)]
            values = data.values()
        except (KeyError, TypeError, AttributeError):
            self._log_any(data, step, commit)
            return
        if not _FLOATS.issuperset(map(type, values)) and not self._are_plain(values):
            self._log_any(data, step, commit)
            return
        if step is not None and type(step) is not int:
            step = _checked_step(step)
        with self._lock:
            if self._is_busy:  # a signal handler or finalizer inside another log() of this thread
                row = tuple(values)
                self._deferred.append(lambda: self._append(schema, row, step, commit))
                return
            self._is_busy = True
            try:
                at = before = self.step
                if step is None:
                    if commit is None or commit:
                        self.step = at + 1
                    else:
                        self._open_step = at
                else:
                    at = self._place(step, commit)
                self._append_row(schema, at, self._time_ns(), values)
            except struct.error:
                self.step = before
                raise _step_error(at) from None
            finally:
                self._is_busy = False
        if self._deferred:
            self._run_deferred()

    def log_beside(self, data: Mapping[str, Any], *, step: int, time_unix_ns: int) -> None:
        """Appends values that count their steps by themselves and say when they came; the current step stays as it is."""
        flat, media = self._flatten(data)
        step = _checked_step(step)
        names, values = tuple(flat), tuple(flat.values())

        def append() -> None:
            if names:
                with self._lock:
                    schema = self._schemas.get(names) or self._add_schema(names)
                    self._append_row(schema, step, time_unix_ns, values)
            if media and self.media is not None:
                self.media.record(media, step, time_unix_ns)

        self.call_soon(append)

    @property
    def last_step(self) -> int:
        """The last step that has a row, if any has; -1 before the first."""
        return self.step if self._open_step == self.step else self.step - 1

    def call_soon(self, call: _DeferredCall) -> None:
        """Calls at once, or right after the row that this thread is in the middle of."""
        with self._lock:
            if self._is_busy:
                self._deferred.append(call)
                return
        call()

    def append_frame(self, kind: int, payload: bytes) -> None:
        """Appends a frame to the journal, at once or right after what this thread is in the middle of.

        A signal handler that logs while the frame is written comes behind it.
        """
        with self._lock:
            if self._is_busy:
                self._deferred.append(lambda: self.append_frame(kind, payload))
                return
            self._is_busy = True
            try:
                self._journal.append(kind, payload)
            finally:
                self._is_busy = False
        if self._deferred:
            self._run_deferred()

    def now_unix_ns(self) -> int:
        """Returns the time by the clock that stamps rows."""
        return self._time_ns()

    def abandon(self) -> None:
        """Takes a lock of its own: in a forked child, where another thread may have held the old one for ever."""
        self._lock = threading.RLock()

    def resume_at(self, step: int) -> None:
        """Sets the step at which a resumed run goes on."""
        with self._lock:
            self.step = max(self.step, step)

    def last_values(self) -> dict[str, float]:
        """Returns the value that each metric was last logged with."""
        with self._lock:
            schemas = sorted(self._schemas.values(), key=lambda schema: schema.last_sequence)
            values = dict(self._forgotten)
        for schema in schemas:
            values.update(zip(schema.names, schema.last_values()))
        return values

    def last_media(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns by name what was logged last besides numbers."""
        return {} if self.media is None else dict(self.media.last)

    def last_value(self, name: str) -> float | None:
        """Returns the value that the metric was last logged with; None if it never was."""
        with self._lock:
            holders = [s for s in self._schemas.values() if s.last_sequence and name in s.names]
        if not holders:
            return self._forgotten.get(name)
        newest = max(holders, key=lambda schema: schema.last_sequence)
        return newest.last_values()[newest.names.index(name)]

    def histories(self, names: Collection[str]) -> dict[str, list[float]]:
        """Returns for each name a thinned history in step order, for sparklines."""
        points: dict[str, dict[int, float]] = {name: {} for name in names}
        with self._lock:
            rows = [(s.names, s.sampled_rows()) for s in self._schemas.values()]
        for columns, samples in rows:
            wanted = [(i, points[name]) for i, name in enumerate(columns) if name in points]
            for step, values in samples if wanted else ():
                for i, by_step in wanted:
                    by_step[step] = values[i]
        return {
            name: [by_step[step] for step in sorted(by_step)] for name, by_step in points.items()
        }

    def _log_any(self, data: Any, step: Any, commit: bool | None) -> None:
        """Does what `log` does for everything unusual: new key sets, nested dicts, media, NumPy and torch scalars, big ints."""
        flat, media = self._flatten(data)
        if step is not None:
            step = _checked_step(step)
        names = tuple(flat)
        with self._lock:
            schema = self._schemas.get(names)
            if schema is None and names:
                schema = self._add_schema(names)
            if self._is_busy:
                values = tuple(flat.values())
                self._deferred.append(lambda: self._append(schema, values, step, commit, media))
                return
        self._append(schema, tuple(flat.values()), step, commit, media)

    def _append(
        self,
        schema: RowSchema | None,
        values: tuple[float, ...],
        step: int | None,
        commit: bool | None,
        media: Sequence[Any] = (),
    ) -> None:
        with self._lock:
            self._is_busy = True
            at = before = self.step
            try:
                at = self._place(step, commit)
                time_unix_ns = self._time_ns()
                if schema is not None:
                    self._append_row(schema, at, time_unix_ns, values)
            except struct.error:
                self.step = before
                raise _step_error(at) from None
            finally:
                self._is_busy = False
        if media and self.media is not None:
            self.media.record(media, at, time_unix_ns)
        if self._deferred:
            self._run_deferred()

    def _place(self, step: int | None, commit: bool | None) -> int:
        """Returns the step of a row and moves the current one."""
        current = self.step
        if step is None:
            if commit is None or commit:
                self.step = current + 1
            else:
                self._open_step = current
            return current
        if step < current:
            self._note(
                "late_step",
                f"log(step={step}) while the run is at step {current}: kept as late data of step {step}",
            )
            return step
        self.step = step + 1 if commit else step
        self._open_step = None if commit else step
        return step

    def _add_schema(self, names: tuple[str, ...]) -> RowSchema:
        if len(self._schemas) >= SCHEMA_COUNT_MAX:
            for name, value in self.last_values().items():
                if len(self._forgotten) < METRIC_COUNT_MAX or name in self._forgotten:
                    self._forgotten[name] = value
            self._schemas.clear()
        payload = json.dumps(names, ensure_ascii=False, separators=(",", ":")).encode()
        schema = self._schemas[names] = self._journal.make_schema(names, payload)
        return schema

    def _run_deferred(self) -> None:
        while self._deferred:
            try:
                call = self._deferred.popleft()
            except IndexError:
                return  # another thread took it
            call()

    def _are_plain(self, values: Collection[Any]) -> bool:
        """Returns whether all are float, int or bool, and no int is too big to be exact."""
        if not _NUMBERS.issuperset(map(type, values)):
            return False
        return all(
            -EXACT_INT_MAX <= value <= EXACT_INT_MAX for value in values if type(value) is int
        )

    def _flatten(self, data: Any) -> _Row:
        if not isinstance(data, Mapping):
            raise TypeError(
                f"log() takes a dict of metric names and numbers, not {type(data).__name__}"
            )
        row: _Row = ({}, [])
        self._flatten_into(row, data, "", 0)
        return row

    def _flatten_into(self, row: _Row, data: Mapping[Any, Any], prefix: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise InvalidArgument(
                f"log(): {prefix!r} is nested deeper than {DEPTH_MAX} levels",
                reason="METRIC_NAME_INVALID",
            )
        for key, value in data.items():
            name = prefix + key if isinstance(key, str) and key else key
            problem = metric_name_problem(name)
            if problem:
                shown = repr(name)[:200]
                if not isinstance(key, str):
                    raise TypeError(f"log(): the name {shown} {problem}")
                raise InvalidArgument(
                    f"log(): the name {shown} {problem}",
                    reason="METRIC_NAME_INVALID",
                    metadata={"metric": shown},
                )
            if name in ROW_KEYS:
                self._note(
                    "row_key",
                    f"log(): {name!r} is what runyard itself gives every row; the value logged is kept as a metric of "
                    f"that name, and histories show the row's own",
                )
            if isinstance(value, Mapping):
                self._flatten_into(row, value, name + ".", depth + 1)
                continue
            number = value if type(value) is float else scalar_of(value)
            if number is None:
                row[1].append(self._prepared(str(name), value))
            else:
                row[0][str(name)] = self._number(name, number)

    def _prepared(self, name: str, value: Any) -> Any:
        """Returns media ready to be recorded; raises TypeError for what is neither a number nor media."""
        media = None if self.media is None else self.media.prepare(name, value)
        if media is None:
            hint = "Text belongs into run.config or run.summary"
            if hasattr(value, "shape"):
                hint = "Of arrays make a runyard.Histogram or a runyard.Image"
            raise TypeError(
                f"log(): the value of {name!r} is of type {_type_name(value)}; a metric takes a number (bool, int, "
                f"float, or a NumPy or torch scalar), and media are runyard.Image, Table and their like. {hint}"
            )
        return media

    def _number(self, name: str, number: float | int) -> float:
        if isinstance(number, int) and not -EXACT_INT_MAX <= number <= EXACT_INT_MAX:
            self._note(
                "big_int",
                f"the integer {_shown_int(number)} of {name!r} is beyond 2^53: metrics are 64-bit floats, so the nearest "
                f"one is kept",
            )
            try:
                return float(number)
            except OverflowError:
                return math.inf if number > 0 else -math.inf
        return float(number)


def scalar_of(value: Any) -> float | int | None:
    """Returns the number that the value stands for, whichever library it comes from; None if it stands for none."""
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (str, bytes, bytearray, complex, type)):
        return None
    if hasattr(value, "dtype") or hasattr(value, "shape"):
        return _array_scalar(value)
    if hasattr(type(value), "__float__"):  # Decimal, Fraction and their like
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return None


def _array_scalar(value: Any) -> float | int | None:
    """Returns the only element of a NumPy, torch, JAX or TensorFlow array; None if there are more or it is no number."""
    if getattr(getattr(value, "dtype", None), "kind", "f") in "cUSOMm":
        return None
    try:
        item = value.item() if hasattr(value, "item") else float(value)
    except (TypeError, ValueError, RuntimeError):
        return None  # more than one element, or of a kind that is no number
    if isinstance(item, (bool, int)):
        return int(item)
    if isinstance(item, float):
        return item
    if isinstance(item, (str, bytes, complex)):
        return None
    try:
        return float(item)  # long double, and extension types whose item() is themselves
    except (TypeError, ValueError):
        return None


def _checked_step(step: Any) -> int:
    """Returns the step as int; raises TypeError or InvalidArgument naming value and limit."""
    number = step
    if type(step) is not int:
        index = getattr(step, "__index__", None)
        is_bool = _is_bool(step)
        try:
            number = None if is_bool or index is None else index()
        except TypeError:
            number = None
        if number is None:
            scalar = None if is_bool else scalar_of(step)
            if scalar is None or scalar != scalar or scalar in (math.inf, -math.inf) or scalar % 1:
                raise TypeError(
                    f"log(): step is {_type_name(step)} {str(step)[:60]!r}; a step is an integer. To draw against "
                    f"another axis, log it as a metric and use define_metric(step_metric=…)"
                )
            number = int(scalar)
    if not STEP_MIN <= number <= STEP_MAX:
        raise _step_error(number)
    return int(number)


def _is_bool(value: Any) -> bool:
    """Returns whether the value is a bool, of Python or of an array library."""
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))


def _step_error(step: int) -> InvalidArgument:
    return InvalidArgument(
        f"log(): step {_shown_int(step)} does not fit 64 bits: {STEP_MIN} to {STEP_MAX} are steps",
        reason="FIELD_INVALID",
    )


def _shown_int(number: int) -> str:
    """Returns the number for a message; Python refuses to write thousands of digits."""
    return str(number) if abs(number) < 10**40 else f"of {number.bit_length()} bits"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
