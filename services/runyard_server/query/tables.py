"""Reads of tables that runs log: checks what is asked, and finds the run's file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runyard_server.domain.tables import (
    TableAsk,
    TableFile,
    TableFilter,
    TableFilterOperator,
    TablePage,
)
from runyard_server.query import planner
from runyard_server.query.runs import check_run_path
from runyard_server.storage.ports.tables import TableReader

LIMIT_DEFAULT, LIMIT_MAX = 100, 10_000
FILTERS_MAX = 20
VALUE_LENGTH_MAX = 4_096


class FileSource(Protocol):
    """What knows the files of runs: rpc.siblings.Siblings."""

    async def get_file(self, run_path: str, name: str) -> TableFile:
        """Returns a file of a run, and where its bytes are. Raises NotFound, FailedPrecondition, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class AskedFilter:
    """A filter as it was asked for."""

    column: str
    operator: int
    value_json: str


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Which rows are wanted; see query.v1.QueryTableRequest."""

    run_path: str
    file: str
    offset: int = 0
    limit: int = 0
    sort_column: str = ""
    is_descending: bool = False
    filters: tuple[AskedFilter, ...] = ()


class TableQueries:
    """Answers QueryTable."""

    def __init__(self, reader: TableReader, source: FileSource) -> None:
        self._reader = reader
        self._source = source

    async def read_rows(self, request: TableRequest) -> TablePage:
        """Returns rows of a table: only a file of that very run is read."""
        check_run_path(request.run_path)
        if not request.file:
            raise planner.invalid("file", "''", "name the file of the table")
        ask = TableAsk(
            offset=request.offset,
            limit=planner.clamp(request.limit, default=LIMIT_DEFAULT, most=LIMIT_MAX),
            sort_column=request.sort_column,
            is_descending=request.is_descending,
            filters=_filters(request.filters),
        )
        file = await self._source.get_file(request.run_path, request.file)
        return await self._reader.read_page(file, ask)


def _filters(asked: Sequence[AskedFilter]) -> tuple[TableFilter, ...]:
    if len(asked) > FILTERS_MAX:
        raise planner.invalid("filters", len(asked), f"at most {FILTERS_MAX} are allowed")
    found = []
    for position, one in enumerate(asked):
        field = f"filters[{position}]"
        try:
            operator = TableFilterOperator(one.operator)
        except ValueError:
            raise planner.invalid(f"{field}.operator", one.operator, "there is no such") from None
        found.append(
            TableFilter(one.column, operator, _value(f"{field}.value_json", one.value_json))
        )
    return tuple(found)


def _value(field: str, text: str) -> Any:
    """Returns a str, a bool, an int, a float or None."""
    if len(text) > VALUE_LENGTH_MAX:
        raise planner.invalid(
            field, text[:64] + "…", f"at most {VALUE_LENGTH_MAX} characters are allowed"
        )
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise planner.invalid(field, text[:64], f"it is no JSON: {error}") from None
    if isinstance(value, dict) and set(value) == {"$float"}:
        names = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        value = names.get(str(value["$float"]), value)
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise planner.invalid(field, text[:64], "it is a string, a number, true, false or null")
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f'bare {name}; write {{"$float": "{name}"}}')
