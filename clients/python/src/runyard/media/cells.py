"""Cells of tables: what type a value is of, and how it is stored."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence, Set
from typing import Any

from runyard import extended_json
from runyard.errors import InvalidArgument
from runyard.media.image import Image, image_like
from runyard.media.libraries import is_array, is_of
from runyard.media.value import Item, Media
from runyard.metric_log import scalar_of

CELL_BYTES_MAX = 1 << 20
NUMBER, STRING, BOOLEAN, DATETIME = "number", "string", "boolean", "datetime"
LIST, OBJECT, MEDIA = "list", "object", "media"
TYPES = (NUMBER, STRING, BOOLEAN, DATETIME, LIST, OBJECT, MEDIA)
"""Of columns, as TableColumn in query.proto names them."""

_OF_CLASS = {
    bool: BOOLEAN, int: NUMBER, float: NUMBER, str: STRING, list: LIST, tuple: LIST, dict: OBJECT,
    datetime.datetime: DATETIME, datetime.date: DATETIME,
}  # fmt: skip


def type_of(value: Any) -> str:
    """Returns the type of a cell; "" for None and what libraries have in its place."""
    found = _OF_CLASS.get(type(value))
    if found is not None:
        return found
    if value is None or is_of(value, "pandas.NAType", "pandas.NaTType"):
        return ""
    if _is_numpy_time(value) and getattr(value, "shape", None) == ():
        return DATETIME if value == value else ""  # NaT
    if isinstance(value, Media) or image_like(value):
        return MEDIA
    if isinstance(value, enum.Enum):
        return type_of(value.value)
    if isinstance(value, str):
        return STRING
    if isinstance(value, datetime.date):
        return DATETIME
    if is_array(value) and getattr(value, "shape", ()) != ():
        return LIST
    if "bool" in str(getattr(value, "dtype", "")):
        return BOOLEAN
    if scalar_of(value) is not None:
        return NUMBER
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray)):
        return LIST
    return OBJECT


def declared_type(declared: Any) -> str:
    """Returns the type that an entry of `dtype` names: one of ours, a class, or a NumPy type."""
    if isinstance(declared, str) and declared in TYPES:
        return declared
    if isinstance(declared, type):
        if issubclass(declared, Media):
            return MEDIA
        for kind, name in _OF_CLASS.items():
            if issubclass(declared, kind):
                return name
    shown = getattr(declared, "__name__", None) or str(declared)
    if any(word in shown.lower() for word in ("int", "float", "double")):
        return NUMBER
    if "bool" in shown.lower():
        return BOOLEAN
    if "datetime" in shown.lower():
        return DATETIME
    raise InvalidArgument(
        f"Table: dtype {declared!r:.80} is not one of {', '.join(TYPES)}, nor a class such as int, float, str, bool, "
        f"datetime, list, dict or runyard.Image"
    )


def as_number(value: Any) -> int | float:
    """Returns the number that a cell holds."""
    number = scalar_of(value.value if isinstance(value, enum.Enum) else value)
    assert number is not None, "type_of has said that it is one"
    return number


def as_time(value: Any) -> datetime.datetime:
    """Returns the moment in UTC; a time of no zone is one of UTC."""
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime(warn=False) if is_of(value, "pandas.Timestamp") else value
    elif _is_numpy_time(value):
        value = value.astype("datetime64[us]").item()
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    moment: datetime.datetime = value
    if moment.tzinfo is None:
        return moment.replace(tzinfo=datetime.timezone.utc)
    return moment.astimezone(datetime.timezone.utc)


def as_text(value: Any, where: str) -> str:
    """Returns the text of a string cell; raises InvalidArgument if it is too long."""
    if isinstance(value, enum.Enum):
        value = value.value
    return _short(str(extended_json.plain(str(value))), where)


def as_json(value: Any, where: str) -> str:
    """Returns a list, an object or a cell of a mixed column as extended JSON; raises InvalidArgument if it is too long."""
    if is_array(value) and hasattr(value, "tolist"):
        value = value.detach().cpu().tolist() if is_of(value, "torch.Tensor") else value.tolist()
    return _short(extended_json.dumps(extended_json.plain(value)), where)


def as_item(value: Any) -> Item:
    """Returns the item of a media cell, with its kind."""
    media = value if isinstance(value, Media) else Image(value)
    if media.kind == "table":
        raise InvalidArgument("Table: a table cannot be a cell of a table")
    item = media.item()
    if media.kind == "histogram":
        item = {"histogram": item}
    return {"kind": media.kind, **item}


def _is_numpy_time(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "M"


def _short(text: str, where: str) -> str:
    size_bytes = len(text.encode())
    if size_bytes > CELL_BYTES_MAX:
        raise InvalidArgument(
            f"{where} has {size_bytes} bytes, at most {CELL_BYTES_MAX} are allowed; keep large values in a file of the run",
            reason="FIELD_TOO_LARGE",
        )
    return text


def rows_of_frame(frame: Any) -> tuple[list[str], list[list[Any]]]:
    """Returns (names of columns, rows) of a pandas DataFrame; missing values of texts and objects are None."""
    names = [str(name) for name in frame.columns]
    columns = []
    for position in range(len(names)):
        series = frame.iloc[:, position]
        values = series.tolist()
        if getattr(series.dtype, "kind", "O") not in "iufb":
            missing = series.isna().tolist()
            values = [None if gone else value for value, gone in zip(values, missing)]
        columns.append(values)
    return names, [list(row) for row in zip(*columns)]


def is_frame(value: object) -> bool:
    """Returns whether the value is a pandas DataFrame."""
    return is_of(value, "pandas.DataFrame")
