"""Cells of a table as extended JSON, and which columns there are."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from runyard_server.domain.tables import TableColumn

METADATA_KEY = b"runyard"
TYPES = frozenset({"number", "string", "boolean", "datetime", "list", "object", "media"})
_FLOAT_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def columns_of(schema: pa.Schema) -> tuple[TableColumn, ...]:
    """Returns the columns with the types that the writer named, or that the file's own types come to."""
    named: dict[str, str] = {}
    try:
        told = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
        named = {str(one["name"]): str(one["type"]) for one in told.get("columns", ())}
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # another program's file: its own types tell
    return tuple(
        TableColumn(field.name, _type(field.type, named.get(field.name, ""))) for field in schema
    )


def _type(kind: pa.DataType, named: str) -> str:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "datetime"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return named if named in TYPES - {"number", "boolean", "datetime"} else "string"
    return "string"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type that a column of a file is kept as: what is not simple becomes text."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_float16(kind):
        return pa.float64()
    is_simple = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_large_string(kind)
    )
    return kind if is_simple else pa.large_string()


def plain_column(column: pa.Array) -> pa.Array:
    """Returns the column as `plain_type` says; values of nested or odd types as extended JSON, or their text."""
    wanted = plain_type(column.type)
    if column.type == wanted:
        return column
    if pa.types.is_dictionary(column.type):
        return plain_column(column.dictionary_decode())
    if pa.types.is_string(column.type) or pa.types.is_floating(column.type):
        return column.cast(wanted)
    return pa.array([None if one is None else _text(one) for one in column.to_pylist()], wanted)


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(_extended(value), ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _extended(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": _FLOAT_NAMES.get(value, "NaN")}
    if isinstance(value, list):
        return [_extended(one) for one in value]
    if isinstance(value, tuple):
        return [_extended(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _extended(one) for key, one in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else _text(value)


def cell_writer(column: TableColumn) -> Callable[[Any], str]:
    """Returns what turns a value of the column into extended JSON."""
    return _WRITERS.get(column.type, _string)


def _number(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'{{"$float":"{_FLOAT_NAMES.get(value, "NaN")}"}}'
    return repr(value)


def _string(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _datetime(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        text = (
            moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        )
        return f'"{text}Z"'
    return json.dumps(str(value))


def _embedded(value: str) -> str:
    """Returns a cell that is JSON already; as a text if it is none."""
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return _string(value)
    return value


_WRITERS: dict[str, Callable[[Any], str]] = {
    "number": _number,
    "boolean": lambda value: "true" if value else "false",
    "datetime": _datetime,
    "list": _embedded,
    "object": _embedded,
    "media": _embedded,
}
