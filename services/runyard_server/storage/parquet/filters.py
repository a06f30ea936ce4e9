"""Which rows of a table are wanted, in order: filters and sorting over memory-mapped columns."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.tables import TableColumn, TableFilter, TableFilterOperator

_COMPARE: dict[TableFilterOperator, Callable[[Any, Any], Any]] = {
    TableFilterOperator.EQUAL: pc.equal,
    TableFilterOperator.NOT_EQUAL: pc.not_equal,
    TableFilterOperator.LESS: pc.less,
    TableFilterOperator.AT_MOST: pc.less_equal,
    TableFilterOperator.GREATER: pc.greater,
    TableFilterOperator.AT_LEAST: pc.greater_equal,
}
_EQUALITIES = (TableFilterOperator.EQUAL, TableFilterOperator.NOT_EQUAL)
_TEXTS = (TableFilterOperator.CONTAINS, TableFilterOperator.MATCHES)
_NESTED = ("list", "object", "media")
_VALUE_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "datetime": (str,),
}


def matching_rows(
    table: pa.Table, columns: tuple[TableColumn, ...], filters: tuple[TableFilter, ...]
) -> NDArray[np.int64] | None:
    """Returns the numbers of the rows that pass all filters, ascending; None: all rows."""
    mask: NDArray[np.bool_] | None = None
    for one in filters:
        found = _mask(table, columns, one)
        mask = found if mask is None else mask & found
    return None if mask is None else np.flatnonzero(mask)


def sorted_rows(
    table: pa.Table,
    columns: tuple[TableColumn, ...],
    rows: NDArray[np.int64] | None,
    *,
    sort_column: str,
    is_descending: bool,
) -> NDArray[np.int64]:
    """Returns the rows by the column's cells; NaN and empty ones at the end, equal ones as they were."""
    column_of(columns, sort_column, field="sort_column")
    cells = table[sort_column]
    if rows is not None:
        cells = cells.take(pa.array(rows)) if len(rows) else cells.slice(0, 0)
    order = "descending" if is_descending else "ascending"
    # Of a table of one column: so nulls, and NaN before them, stand at the end, and the sort is stable.
    places: NDArray[np.int64] = pc.sort_indices(
        pa.table({"cell": cells}), sort_keys=[("cell", order)]
    ).to_numpy()
    return places.astype(np.int64) if rows is None else rows[places]


def column_of(columns: tuple[TableColumn, ...], name: str, *, field: str) -> TableColumn:
    """Returns the column of that name; raises InvalidArgument."""
    for column in columns:
        if column.name == name:
            return column
    known = ", ".join(repr(column.name) for column in columns[:20])
    raise invalid(field, name, f"the table has no such column; it has {known}")


def invalid(field: str, value: object, problem: str) -> InvalidArgument:
    """Returns the error for a field of the request."""
    shown = repr(value)[:256]
    return InvalidArgument(
        "FIELD_INVALID", f"{field} is {shown}: {problem}", metadata={"field": field, "value": shown}
    )


def _mask(table: pa.Table, columns: tuple[TableColumn, ...], one: TableFilter) -> NDArray[np.bool_]:
    column = column_of(columns, one.column, field="filters.column")
    cells = table[one.column]
    if one.operator in _TEXTS:
        return _text_mask(cells, column, one)
    if one.value is None:
        if one.operator not in _EQUALITIES:
            raise invalid("filters.value_json", None, "null is equal or not equal only")
        found = cells.is_null() if one.operator == TableFilterOperator.EQUAL else cells.is_valid()
        return _bits(found)
    if column.type in _NESTED:
        raise invalid(
            "filters.operator",
            one.operator.name,
            f"column {one.column!r} is of type {column.type}; such cells can be searched by CONTAINS and MATCHES, or compared with null",
        )
    wanted = _VALUE_TYPES[column.type]
    is_bool = isinstance(one.value, bool)
    if not isinstance(one.value, wanted) or (is_bool and bool not in wanted):
        raise invalid(
            "filters.value_json", one.value, f"column {one.column!r} is of type {column.type}"
        )
    if column.type == "number" and pa.types.is_integer(cells.type):
        return _integer_mask(cells, one)
    scalar = _scalar(cells.type, column, one.value)
    found = _COMPARE[one.operator](cells, scalar)
    return _bits(pc.fill_null(found, one.operator == TableFilterOperator.NOT_EQUAL))


def _integer_mask(cells: pa.ChunkedArray, one: TableFilter) -> NDArray[np.bool_]:
    """Compares exactly: neither side becomes a double that cannot hold it."""
    low, high = _integer_range(cells.type)
    value, operator = one.value, one.operator
    if isinstance(value, float):
        if not np.isfinite(value):
            # Nothing is equal to NaN or beyond an infinity.
            is_all = (
                operator == TableFilterOperator.NOT_EQUAL
                or (
                    value > 0
                    and operator in (TableFilterOperator.LESS, TableFilterOperator.AT_MOST)
                )
                or (
                    value < 0
                    and operator in (TableFilterOperator.GREATER, TableFilterOperator.AT_LEAST)
                )
            )
            valid = _bits(cells.is_valid())
            if operator == TableFilterOperator.NOT_EQUAL:
                return np.ones(len(valid), np.bool_)
            return valid if is_all else np.zeros(len(valid), np.bool_)
        floor = int(np.floor(value))
        if floor != value:
            if operator in _EQUALITIES:
                valid = np.ones(len(cells), np.bool_)
                return valid if operator == TableFilterOperator.NOT_EQUAL else ~valid
            is_below = operator in (TableFilterOperator.LESS, TableFilterOperator.AT_MOST)
            operator = TableFilterOperator.AT_MOST if is_below else TableFilterOperator.GREATER
        value = floor
    if not low <= value <= high:
        is_true = {
            TableFilterOperator.EQUAL: False,
            TableFilterOperator.NOT_EQUAL: True,
            TableFilterOperator.LESS: value > high,
            TableFilterOperator.AT_MOST: value > high,
            TableFilterOperator.GREATER: value < low,
            TableFilterOperator.AT_LEAST: value < low,
        }[operator]
        valid = _bits(cells.is_valid())
        if operator == TableFilterOperator.NOT_EQUAL:
            return np.ones(len(valid), np.bool_)
        return valid if is_true else np.zeros(len(valid), np.bool_)
    found = _COMPARE[operator](cells, pa.scalar(value, cells.type))
    return _bits(pc.fill_null(found, operator == TableFilterOperator.NOT_EQUAL))


def _integer_range(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_unsigned_integer(kind):
        return 0, int(2**kind.bit_width - 1)
    return -int(2 ** (kind.bit_width - 1)), int(2 ** (kind.bit_width - 1) - 1)


def _scalar(kind: pa.DataType, column: TableColumn, value: Any) -> pa.Scalar:
    if column.type != "datetime":
        return pa.scalar(value, kind)
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        raise invalid("filters.value_json", value, "it is no time in ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    if pa.types.is_date(kind):
        return pa.scalar(moment.date(), kind)
    if kind.tz is None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    try:
        return pa.scalar(moment, pa.timestamp("us", kind.tz)).cast(kind)
    except pa.ArrowInvalid as error:
        raise invalid("filters.value_json", value, str(error)) from None


def _text_mask(cells: pa.ChunkedArray, column: TableColumn, one: TableFilter) -> NDArray[np.bool_]:
    if not isinstance(one.value, str):
        raise invalid("filters.value_json", one.value, "to be contained or to match it is a text")
    texts = cells
    if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
        texts = pc.cast(cells, pa.string())
    try:
        if one.operator == TableFilterOperator.CONTAINS:
            found = pc.match_substring(texts, one.value, ignore_case=True)
        else:
            found = pc.match_substring_regex(texts, one.value)
    except pa.ArrowInvalid as error:
        raise invalid(
            "filters.value_json", one.value, f"it is no regular expression (RE2): {error}"
        ) from None
    return _bits(pc.fill_null(found, False))


def _bits(found: pa.ChunkedArray) -> NDArray[np.bool_]:
    bits: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()  # fmt: skip
    return bits.astype(np.bool_, copy=False)
