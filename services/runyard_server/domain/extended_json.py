"""Extended JSON: what configs and summaries are written in; integers exact to 64 bits, no bare NaN or Infinity."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from runyard_server.domain.errors import InvalidArgument

JsonObject = dict[str, Any]
"""A decoded object; floats that JSON cannot say stay as their {"$float": …} objects."""

_INT_LOW = -(2**63)
_INT_HIGH = 2**64 - 1
_DEPTH_MAX = 64
_FLOAT_NAMES = frozenset({"NaN", "Infinity", "-Infinity"})


def read_object(text: str, *, field: str, bytes_max: int) -> JsonObject:
    """Returns the object that the text says; empty text is an empty object.

    Raises InvalidArgument: FIELD_TOO_LARGE over `bytes_max`, FIELD_INVALID if it is no extended JSON object.
    """
    if not text:
        return {}
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > bytes_max:
        raise too_large(field, size_bytes, bytes_max)
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_read_int, parse_float=_read_float
        )
    except RecursionError:
        raise _invalid(field, f"is nested deeper than {_DEPTH_MAX} levels") from None
    except ValueError as error:
        raise _invalid(field, f"is not extended JSON: {error}") from None
    if not isinstance(value, dict):
        raise _invalid(field, f"is a JSON {type(value).__name__}, but must be an object")
    _check_value(value, field=field, depth=1)
    return value


def write_object(value: Mapping[str, Any]) -> str:
    """Returns the object as compact JSON text; keys keep their order, integers and floats come back exactly."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def merge_config(
    config: Mapping[str, Any], *, changes: Mapping[str, Any], removed_keys: Iterable[str]
) -> JsonObject:
    """Returns the config without `removed_keys` and with `changes` set; nested objects are replaced, not merged."""
    merged = dict(config)
    for key in removed_keys:
        merged.pop(key, None)
    merged.update(changes)
    return merged


def too_large(field: str, size_bytes: int, bytes_max: int) -> InvalidArgument:
    """Returns the error for a field that is larger than its limit."""
    return InvalidArgument(
        "FIELD_TOO_LARGE",
        f"{field} has {size_bytes} bytes, at most {bytes_max} are allowed; keep large values in a file of the run",
        metadata={"field": field, "value": size_bytes, "limit": bytes_max},
    )


def _check_value(value: Any, *, field: str, depth: int) -> None:
    if isinstance(value, str):
        if not _is_text(value):
            raise _invalid(field, "holds a lone surrogate, which is no character")
        return
    if not isinstance(value, (dict, list)):
        return
    if depth > _DEPTH_MAX:
        raise _invalid(field, f"is nested deeper than {_DEPTH_MAX} levels")
    if isinstance(value, list):
        for item in value:
            _check_value(item, field=field, depth=depth + 1)
        return
    if "$float" in value and (len(value) != 1 or str(value["$float"]) not in _FLOAT_NAMES):
        raise _invalid(field, f"holds a $float that is none of {', '.join(sorted(_FLOAT_NAMES))}")
    for key, item in value.items():
        if not _is_text(key):
            raise _invalid(field, "holds a key with a lone surrogate, which is no character")
        _check_value(item, field=field, depth=depth + 1)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_int(digits: str) -> int:
    value = int(digits) if len(digits) <= 24 else _INT_HIGH + 1
    if not _INT_LOW <= value <= _INT_HIGH:
        raise ValueError(
            f"integer {digits[:32]} does not fit 64 bits; send it as text or as a float"
        )
    return value


def _read_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:32]} is beyond a 64-bit float")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f'bare {name} is not JSON; write {{"$float": "{name}"}}')


def _invalid(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID", f"{field} {problem}", metadata={"field": field, "value": problem}
    )
