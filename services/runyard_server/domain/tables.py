"""Tables that runs log: what may be asked of one, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class TableFilterOperator(IntEnum):
    """How a cell is compared; values are those of query.v1.TableFilterOperator."""

    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    AT_MOST = 4
    GREATER = 5
    AT_LEAST = 6
    CONTAINS = 7
    MATCHES = 8


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column; `type` is one of query.v1.TableColumn.type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class TableFilter:
    """A condition on a column; `value` is a str, a bool, an int, a float or None."""

    column: str
    operator: TableFilterOperator
    value: Any


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a run that may hold a table."""

    name: str
    size_bytes: int
    sha256: str
    url: str


@dataclass(frozen=True, slots=True)
class TableAsk:
    """Which rows of a table are wanted."""

    offset: int = 0
    limit: int = 100
    sort_column: str = ""
    is_descending: bool = False
    filters: tuple[TableFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class TablePage:
    """Rows, each an extended JSON array with a cell per column."""

    columns: tuple[TableColumn, ...]
    rows_json: tuple[str, ...]
    matching_count: int
    row_count: int
