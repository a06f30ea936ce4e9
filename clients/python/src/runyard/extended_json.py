"""Extended JSON: JSON with NaN, infinities and 64-bit integers; of config and summary values, in files and on the wire."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, Callable

INT_MIN = -(2**63)
INT_MAX = 2**64 - 1
DEPTH_MAX = 64
ELEMENT_COUNT_MAX = 10_000

_FLOAT_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Note = Callable[[str, str], None]
"""Takes a key that makes the note unique, and its text."""


def dumps(value: object) -> str:
    """Returns the value, which `plain` made, as extended JSON without blanks."""
    return json.dumps(_escape(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:
    """Returns what extended JSON says."""
    return json.loads(text, object_hook=_unescape)


def plain(value: object, *, note: Note | None = None) -> Any:
    """Returns the value as None, bool, int, float, str, list and dict with str keys only.

    NumPy and torch scalars become numbers, arrays lists, dataclasses and namespaces dicts, times ISO text; what is
    of no known kind becomes its `str()`. An int beyond 64 bits becomes the nearest float, which `note` is told.
    """
    return _plain(value, note or _ignore, 0)


def _ignore(key: str, text: str) -> None:
    """Takes a note that nobody wants."""


def _plain(value: Any, note: Note, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is str:
        return _clean_text(value) if kind is str else value
    if isinstance(value, enum.Enum):
        return _plain(value.value, note, depth + 1) if depth < DEPTH_MAX else str(value)
    if isinstance(value, int):
        return bool(value) if kind is bool else _plain_int(int(value), note)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return _clean_text(str.__str__(value))
    if depth >= DEPTH_MAX:
        note("depth", f"values nested deeper than {DEPTH_MAX} are kept as text")
        return _clean_text(_text_of(value))
    fields = fields_of(value)
    if fields is not None:
        return {
            _clean_text(str(key)): _plain(item, note, depth + 1) for key, item in fields.items()
        }
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray, memoryview)):
        return _plain_list(list(value), note, depth)
    return _plain_other(value, note, depth)


def _text_of(value: Any) -> str:
    try:
        return str(value)
    except RecursionError:
        return f"<{type(value).__name__}, nested too deep to be written out>"


def _plain_list(items: list[Any], note: Note, depth: int) -> list[Any]:
    if len(items) > ELEMENT_COUNT_MAX:
        note("elements", f"of a list of {len(items)} values the first {ELEMENT_COUNT_MAX} are kept")
        items = items[:ELEMENT_COUNT_MAX]
    return [_plain(item, note, depth + 1) for item in items]


def _plain_int(value: int, note: Note) -> Any:
    if INT_MIN <= value <= INT_MAX:
        return value
    shown = str(value) if abs(value) < 10**40 else f"of {value.bit_length()} bits"
    note("int64", f"the integer {shown} does not fit 64 bits and is kept as a float")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _plain_other(value: Any, note: Note, depth: int) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    size = getattr(value, "size", None)
    if callable(size):  # torch: size() is the shape
        size = value.numel() if hasattr(value, "numel") else None
    to_list = getattr(value, "tolist", None)
    if callable(to_list) and not isinstance(value, type):
        if isinstance(size, int) and size > ELEMENT_COUNT_MAX:
            note("elements", f"an array of {size} values is kept as text; log files for arrays")
            return _clean_text(str(value))
        return _plain(to_list(), note, depth + 1)
    return _clean_text(str(value))


def fields_of(value: Any) -> Mapping[Any, Any] | None:
    """Returns the named parts of a mapping, dataclass, argparse namespace or flags object; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if type(value).__name__ == "Namespace" and hasattr(value, "__dict__"):
        return dict(vars(value))
    flag_values = getattr(value, "flag_values_dict", None)  # absl.flags.FlagValues
    if callable(flag_values):
        return dict(flag_values())
    as_fields = getattr(value, "_asdict", None)  # named tuples
    if callable(as_fields):
        return dict(as_fields())
    if callable(getattr(value, "keys", None)) and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 (not a Mapping: OmegaConf, h5py)
    return None


def _clean_text(text: str) -> str:
    """Returns the text with lone surrogates, which UTF-8 cannot say, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _escape(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        if math.isfinite(value):
            return value
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {"$float": name}
    if kind is dict:
        return {key: _escape(item) for key, item in value.items()}
    if kind is list:
        return [_escape(item) for item in value]
    return value


def _unescape(fields: dict[str, Any]) -> Any:
    if len(fields) == 1 and "$float" in fields:
        return _FLOAT_NAMES.get(fields["$float"], fields)
    return fields
