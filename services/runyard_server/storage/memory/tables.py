"""The reference of TableReader: tables as lists of rows."""

from __future__ import annotations

import datetime
import json
import math
import operator
import re
from collections.abc import Sequence
from typing import Any

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.tables import (
    TableAsk,
    TableColumn,
    TableFile,
    TableFilter,
    TableFilterOperator,
    TablePage,
)

Row = Sequence[Any]
_COMPARE = {
    TableFilterOperator.EQUAL: operator.eq,
    TableFilterOperator.NOT_EQUAL: operator.ne,
    TableFilterOperator.LESS: operator.lt,
    TableFilterOperator.AT_MOST: operator.le,
    TableFilterOperator.GREATER: operator.gt,
    TableFilterOperator.AT_LEAST: operator.ge,
}


class MemoryTables:
    """Keeps tables in memory, by the SHA-256 of their file. Cells of lists, objects and media are JSON texts."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[tuple[TableColumn, ...], list[Row]]] = {}

    def add(self, sha256: str, columns: Sequence[TableColumn], rows: Sequence[Row]) -> None:
        """Puts a table there."""
        self._tables[sha256] = (tuple(columns), list(rows))

    async def read_page(self, file: TableFile, ask: TableAsk) -> TablePage:
        """Returns rows; see TableReader."""
        if file.sha256 not in self._tables:
            raise _invalid("file", file.name, "no table")
        columns, rows = self._tables[file.sha256]
        matching = [row for row in rows if all(_passes(columns, row, one) for one in ask.filters)]
        if ask.sort_column:
            place = _place(columns, ask.sort_column)
            # Without a value, NaN among it, comes last: NaN before what is empty.
            full = [row for row in matching if not _is_missing(row[place])]
            full.sort(key=lambda row: row[place], reverse=ask.is_descending)
            if ask.is_descending:  # equal cells stay as logged
                full = [
                    row
                    for value in dict.fromkeys(row[place] for row in full)
                    for row in matching
                    if not _is_missing(row[place]) and row[place] == value
                ]
            nans = [row for row in matching if isinstance(row[place], float) and math.isnan(row[place])]  # fmt: skip
            matching = full + nans + [row for row in matching if row[place] is None]
        page = matching[ask.offset : ask.offset + ask.limit]
        texts = [f"[{','.join(map(_json, columns, row))}]" for row in page]
        return TablePage(columns, tuple(texts), len(matching), len(rows))


def _passes(columns: tuple[TableColumn, ...], row: Row, one: TableFilter) -> bool:
    place = _place(columns, one.column)
    cell, kind = row[place], columns[place].type
    if one.operator in (TableFilterOperator.CONTAINS, TableFilterOperator.MATCHES):
        if cell is None:
            return False
        text = cell if isinstance(cell, str) else json.dumps(cell)
        if one.operator == TableFilterOperator.CONTAINS:
            return one.value.lower() in text.lower()
        return re.search(one.value, text) is not None
    if one.value is None:
        return (cell is None) == (one.operator == TableFilterOperator.EQUAL)
    if cell is None:
        return one.operator == TableFilterOperator.NOT_EQUAL
    value = datetime.datetime.fromisoformat(one.value) if kind == "datetime" else one.value
    return bool(_COMPARE[one.operator](cell, value))


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _json(column: TableColumn, cell: Any) -> str:
    if cell is None:
        return "null"
    if column.type in ("list", "object", "media"):
        return str(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        name = "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"
        return f'{{"$float":"{name}"}}'
    if isinstance(cell, datetime.datetime):
        moment = cell.astimezone(datetime.UTC).replace(tzinfo=None)
        return f'"{moment.isoformat(timespec="microseconds")}Z"'
    return json.dumps(cell, ensure_ascii=False)


def _place(columns: tuple[TableColumn, ...], name: str) -> int:
    for place, column in enumerate(columns):
        if column.name == name:
            return place
    raise _invalid("column", name, "no such column")


def _invalid(field: str, value: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} is {value!r}: {problem}",
        metadata={"field": field, "value": value},
    )
