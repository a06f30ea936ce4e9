"""Promises of what reads tables that runs log."""

from __future__ import annotations

from typing import Protocol

from runyard_server.domain.tables import TableAsk, TableFile, TablePage


class TableReader(Protocol):
    """Reads pages of tables, in bounded memory however large the table is."""

    async def read_page(self, file: TableFile, ask: TableAsk) -> TablePage:
        """Returns rows `offset` … of those that pass all filters, sorted or as logged.

        Integers MUST come exact, floats bit by bit, NaN and infinities as extended JSON, times as ISO 8601 in UTC to the
        microsecond. NaN and empty cells sort behind all others either way; equal cells stay as logged. A comparison is true
        of no empty cell but for NOT_EQUAL, and EQUAL with null. Fewer rows than `limit` come where they are long, at least one.
        Raises InvalidArgument (FIELD_INVALID, FIELD_TOO_LARGE) for what is no table, has no such column, or cannot be
        compared so; Unavailable.
        """
        ...
