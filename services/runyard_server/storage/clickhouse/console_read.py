"""Reads what runs print from ClickHouse: the port ConsoleReader."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.ports.console import (
    BlocksSeen,
    LineFilter,
    LinePlace,
    LineRows,
    WriterLines,
)

_COLUMNS: Final = "writer, line, time, stream, text"
_SHOWN: Final = "if(position(text, '\\x1b') = 0, text, plain)"
"""What a search looks at: the text without its colours. As the index of the table has it, letter by letter."""
# An index may pass over the newer text of a line whose older text is found: the exact mode reads that too.
_SETTINGS: Final = (
    "SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1,"
    " use_skip_indexes_if_final_exact_mode = 1"
)
_SEARCHED_FIRST: Final = 200_000
"""Rows that a search looks at before it looks at all."""
_SAMPLE: Final = 4_000
_SPANS_MAX: Final = 1_000
_CANNOT_COMPILE: Final = 427
"""CANNOT_COMPILE_REGEXP."""


class ClickHouseConsoleReader:
    """The port ConsoleReader over ClickHouse. Holds hints only: how long a time the last page of a run took."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store
        self._spans: OrderedDict[tuple[RunKey, LineFilter], int] = OrderedDict()

    async def read_lines(
        self,
        run_key: RunKey,
        where: LineFilter,
        *,
        after: LinePlace | None,
        is_newest_first: bool,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        """Returns a page of lines; see the port."""
        bounds, texts, parameters = await self._conditions(run_key, where)
        if after is not None:
            sign = "<" if is_newest_first else ">"
            place = (after.time_unix_ms, after.writer, after.line)
            # The first condition is what the index on time can use.
            bounds.append(f"time {sign}= {after.time_unix_ms}")
            bounds.append(f"(time, writer, line) {sign} {place}")
        key = (run_key, where)
        count = _SEARCHED_FIRST if texts else 4 * limit
        rows = LineRows([], [], [], [], [])
        async for bound in self._stretches(key, bounds, after, is_newest_first, count):
            rows = await self._read(
                [*bounds, bound, *texts],
                parameters,
                is_newest_first=is_newest_first,
                limit=limit,
                bytes_max=bytes_max,
            )
            if rows.has_more:
                self._note_span(key, rows)
                break
        return rows

    async def _stretches(
        self,
        key: tuple[RunKey, LineFilter],
        conditions: Sequence[str],
        after: LinePlace | None,
        is_newest_first: bool,
        count: int,
    ) -> AsyncIterator[str]:
        """Yields conditions on the time under which to look for a page, each weaker than the one before, at last none.

        To sort, or to search, a whole long log takes long, and most pages are full with the lines that come next.
        """
        span_ms = self._spans.get(key)
        if after is not None and span_ms is not None:
            if is_newest_first:
                yield f"time >= {after.time_unix_ms - span_ms}"
            else:
                yield f"time <= {after.time_unix_ms + span_ms}"
        near = await self._near_time(conditions, is_newest_first=is_newest_first, count=count)
        if near:
            yield near
        yield "1"

    def _note_span(self, key: tuple[RunKey, LineFilter], rows: LineRows) -> None:
        """Remembers how long a time a full page took: the next one may take as long."""
        span_ms = rows.times_unix_ms[-1] - rows.times_unix_ms[0]
        self._spans[key] = 2 * span_ms + 1
        self._spans.move_to_end(key)
        while len(self._spans) > _SPANS_MAX:
            self._spans.popitem(last=False)

    async def _near_time(
        self, conditions: Sequence[str], *, is_newest_first: bool, count: int
    ) -> str:
        """Returns a condition that holds for about the first `count` rows, or the last; empty if there are not many more."""
        step = max(1, count // _SAMPLE)
        table = await self._store.query_arrow(
            f"""SELECT time FROM console WHERE {" AND ".join(conditions)} AND line % {step} = 0
ORDER BY time {"DESC" if is_newest_first else ""} LIMIT 1 OFFSET {count // step}"""
        )
        if not table.num_rows:
            return ""
        return f"time {'>=' if is_newest_first else '<='} {table['time'][0].as_py()}"

    async def read_changes(
        self,
        run_key: RunKey,
        where: LineFilter,
        *,
        since: BlocksSeen,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        """Returns lines of blocks not seen; see the port."""
        bounds, texts, parameters = await self._conditions(run_key, where)
        conditions = [*bounds, *texts]
        conditions.append(f"block > {int(since.floor)}")
        if since.blocks:
            conditions.append(f"block NOT IN ({', '.join(str(int(one)) for one in since.blocks)})")
        return await self._read(
            conditions, parameters, is_newest_first=True, limit=limit, bytes_max=bytes_max
        )

    async def read_around(
        self, run_key: RunKey, places: Sequence[LinePlace], *, count: int, bytes_max: int
    ) -> LineRows:
        """Returns lines and their neighbours; see the port."""
        if not places:
            return LineRows([], [], [], [], [])
        spans = [
            f"(writer = {w} AND line BETWEEN {a} AND {b})" for w, a, b in _spans(places, count)
        ]
        wanted = ", ".join(f"({place.writer}, {place.line})" for place in places)
        table = await self._store.query_arrow(
            f"""SELECT {_COLUMNS}, found FROM (
    SELECT {_COLUMNS}, count() OVER () AS found, (writer, line) IN ({wanted}) AS is_match,
        sum(if(is_match, 0, length(text))) OVER (ORDER BY time, writer, line
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS bytes
    FROM (SELECT {_COLUMNS} FROM console FINAL WHERE run = {int(run_key)} AND ({" OR ".join(spans)}))
)
WHERE is_match OR bytes <= {bytes_max} ORDER BY time, writer, line {_SETTINGS}"""
        )
        found = int(table["found"][0].as_py()) if table.num_rows else 0
        return _rows(table, has_more=found > table.num_rows)

    async def see_blocks(self, run_key: RunKey, *, span_ns: int, count_max: int) -> BlocksSeen:
        """Returns what a read that begins now sees; see the port."""
        latest = f"(SELECT max(block) FROM console_writers WHERE run = {int(run_key)})"
        table = await self._store.query_arrow(
            f"""SELECT {latest} AS latest, arraySort(groupUniqArray(block)) AS blocks FROM console
WHERE run = {int(run_key)} AND block > toInt64({latest}) - {int(span_ns)}"""
        )
        floor = max(0, int(table["latest"][0].as_py() or 0) - span_ns)
        return BlocksSeen(floor, tuple(table["blocks"][0].as_py()[-count_max:]))

    async def count_lines(self, run_key: RunKey) -> list[WriterLines]:
        """Returns how much each writer printed; see the port."""
        table = await self._store.query_arrow(
            "SELECT writer, count() AS line_count, max(line) AS last_line, min(time) AS first_time, max(time) AS last_time"
            f"\nFROM console FINAL WHERE run = {int(run_key)} GROUP BY writer ORDER BY writer {_SETTINGS}"
        )
        return [WriterLines(*row.values()) for row in table.to_pylist()]

    async def _read(
        self,
        conditions: Sequence[str],
        parameters: Mapping[str, Any],
        *,
        is_newest_first: bool,
        limit: int,
        bytes_max: int,
    ) -> LineRows:
        direction = " DESC" if is_newest_first else ""
        order = ", ".join(f"{name}{direction}" for name in ("time", "writer", "line"))
        table = await self._store.query_arrow(
            f"""SELECT {_COLUMNS}, found FROM (
    SELECT {_COLUMNS}, count() OVER () AS found, row_number() OVER ways AS place,
        sum(length(text)) OVER ways AS bytes
    FROM (
        SELECT {_COLUMNS} FROM console FINAL WHERE {" AND ".join(conditions)}
        ORDER BY {order} LIMIT {limit + 1}
    )
    WINDOW ways AS (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE place <= {limit} AND (bytes <= {bytes_max} OR place = 1) ORDER BY time, writer, line {_SETTINGS}""",
            parameters,
        )
        found = int(table["found"][0].as_py()) if table.num_rows else 0
        return _rows(table, has_more=found > table.num_rows)

    async def _conditions(
        self, run_key: RunKey, where: LineFilter
    ) -> tuple[list[str], list[str], dict[str, Any]]:
        """Returns the conditions on all but the text, those on it, and the parameters of these."""
        conditions, texts, parameters = [f"run = {int(run_key)}"], list[str](), dict[str, Any]()
        if where.writers:
            conditions.append(f"writer IN ({', '.join(str(int(one)) for one in where.writers)})")
        if where.streams:
            conditions.append(f"stream IN ({', '.join(str(int(one)) for one in where.streams)})")
        if where.first_time_unix_ms is not None:
            conditions.append(f"time >= {int(where.first_time_unix_ms)}")
        if where.last_time_unix_ms is not None:
            conditions.append(f"time <= {int(where.last_time_unix_ms)}")
        if where.contains:
            pattern = f"%{_escaped(where.contains)}%"
            texts.append(f"lower({_SHOWN}) LIKE lower({{contains:String}})")
            if where.is_case_sensitive:
                texts.append(f"{_SHOWN} LIKE {{contains:String}}")
            parameters["contains"] = pattern
        if where.matches:
            expression = where.matches if where.is_case_sensitive else f"(?i){where.matches}"
            await self._check_expression(expression, where.matches)
            texts.append(f"match({_SHOWN}, {{matches:String}})")
            parameters["matches"] = expression
        return conditions, texts, parameters

    async def _check_expression(self, expression: str, shown: str) -> None:
        """Raises InvalidArgument if the store cannot read the regular expression."""
        try:
            await self._store.query_arrow(
                "SELECT match(materialize('a'), {matches:String})", {"matches": expression}
            )
        except ClickHouseError as error:
            if getattr(error, "code", None) != _CANNOT_COMPILE and "REGEXP" not in str(error):
                raise
            raise InvalidArgument(
                "FIELD_INVALID",
                f"matches is {shown!r}: it is no regular expression of RE2 (https://github.com/google/re2/wiki/Syntax)",
                metadata={"field": "matches", "value": shown},
            ) from error


def _spans(places: Sequence[LinePlace], count: int) -> list[tuple[int, int, int]]:
    """Returns (writer, first line, last line) around the places; those that touch are one."""
    spans: list[tuple[int, int, int]] = []
    for writer, line in sorted({(place.writer, place.line) for place in places}):
        first, last = max(1, line - count), line + count
        if spans and spans[-1][0] == writer and first <= spans[-1][2] + 1:
            first = spans.pop()[1]
        spans.append((writer, first, last))
    return spans


def _rows(table: pa.Table, *, has_more: bool) -> LineRows:
    return LineRows(
        writers=table["writer"].to_pylist(),
        lines=table["line"].to_pylist(),
        times_unix_ms=table["time"].to_pylist(),
        streams=table["stream"].to_pylist(),
        texts=[
            text if isinstance(text, str) else text.decode("utf-8", "replace")
            for text in table["text"].to_pylist()
        ],
        has_more=has_more,
    )


def _escaped(text: str) -> str:
    """Returns the text as LIKE finds it literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
