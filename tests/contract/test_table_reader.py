"""Readers of tables: memory, and Parquet files behind a URL, keep what TableReader promises."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import io
import json
import math
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runyard_server.domain.errors import DomainError, InvalidArgument, Unavailable
from runyard_server.domain.tables import (
    TableAsk,
    TableColumn,
    TableFile,
    TableFilter,
    TableFilterOperator,
)
from runyard_server.storage.memory.tables import MemoryTables
from runyard_server.storage.parquet.store import ParquetTables, TablesConfig
from runyard_server.storage.ports.tables import TableReader

OP = TableFilterOperator
COLUMNS = (
    TableColumn("id", "number"),
    TableColumn("score", "number"),
    TableColumn("name", "string"),
    TableColumn("ok", "boolean"),
    TableColumn("at", "datetime"),
    TableColumn("logits", "list"),
    TableColumn("picture", "media"),
)
_ARROW = (
    pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.timestamp("us", "UTC"), pa.string(), pa.string(),
)  # fmt: skip
START = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
ROWS: list[list[Any]] = [
    [2**63 - 1, 0.1, "Cat", True, START, "[1,2.5]", '{"kind":"image","file":"a.png"}'],
    [-(2**63), math.nan, "dog \"x\"\n", False, START + datetime.timedelta(microseconds=1), "[]", None],
    [2**53 + 1, math.inf, "été", None, None, '[{"$float":"NaN"}]', None],
    [2**53, -0.0, None, True, START - datetime.timedelta(days=900), None, None],
    [None, None, "", False, START, "[1,2.5]", None],
    [7, 5e-324, "cat", None, START, "[3]", '{"kind":"image","file":"b.png"}'],
    [7, -math.inf, "a cat", True, None, "[4]", None],
]  # fmt: skip


class Web:
    """Serves files on this machine, and counts how often."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests = 0
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests += 1
                content = web.files.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.send_header("content-length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def put(self, content: bytes, name: str = "t.parquet") -> TableFile:
        """Serves the bytes; returns what names them."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"/{digest}"] = content
        url = f"http://127.0.0.1:{self.server.server_port}/{digest}"
        return TableFile(name, len(content), digest, url)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def parquet(columns: Sequence[TableColumn], rows: Sequence[Sequence[Any]], **options: Any) -> bytes:
    """Returns the table as our SDK writes it."""
    arrays = [
        pa.array([row[place] for row in rows], kind)
        for place, kind in zip(range(len(columns)), _ARROW, strict=True)
    ]
    table = pa.table(dict(zip([one.name for one in columns], arrays, strict=True)))
    told = {"version": 1, "columns": [{"name": one.name, "type": one.type} for one in columns]}
    return bytes_of(table.replace_schema_metadata({"runyard": json.dumps(told)}), **options)


def bytes_of(table: pa.Table, **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


@dataclass
class Readers:
    """A reader, and how a table is given to it."""

    reader: TableReader
    web: Web

    def put(self, rows: Sequence[Sequence[Any]], **options: Any) -> TableFile:
        file = self.web.put(parquet(COLUMNS, rows, **options))
        if isinstance(self.reader, MemoryTables):
            self.reader.add(file.sha256, COLUMNS, rows)
        return file


@pytest.fixture(params=["memory", "parquet"])
async def readers(
    request: pytest.FixtureRequest, tmp_path: Path, web: Web
) -> AsyncIterator[Readers]:
    if request.param == "memory":
        yield Readers(MemoryTables(), web)
        return
    reader = ParquetTables(tmp_path / "tables", TablesConfig())
    yield Readers(reader, web)
    await reader.close()


async def ids(readers: Readers, file: TableFile, **ask: Any) -> list[Any]:
    page = await readers.reader.read_page(file, TableAsk(**ask))
    return [json.loads(text)[0] for text in page.rows_json]


def where(column: str, operator: TableFilterOperator, value: Any) -> tuple[TableFilter, ...]:
    return (TableFilter(column, operator, value),)


async def test_cells_come_exact(readers: Readers) -> None:
    """Integers to 64 bits, floats bit by bit, NaN and infinities in words, times in UTC to the microsecond, JSON as it is."""
    page = await readers.reader.read_page(readers.put(ROWS), TableAsk())
    assert page.columns == COLUMNS
    assert (page.row_count, page.matching_count) == (7, 7)
    rows = [json.loads(text) for text in page.rows_json]
    assert [row[0] for row in rows] == [row[0] for row in ROWS]
    assert [row[1] for row in rows[:3]] == [0.1, {"$float": "NaN"}, {"$float": "Infinity"}]
    assert math.copysign(1, rows[3][1]) == -1.0 and rows[5][1] == 5e-324
    assert [row[2] for row in rows] == [row[2] for row in ROWS]
    assert [row[3] for row in rows] == [row[3] for row in ROWS]
    assert rows[0][4] == "2026-01-02T03:04:05.678901Z"
    assert rows[1][4] == "2026-01-02T03:04:05.678902Z"
    assert rows[0][5:] == [[1, 2.5], {"kind": "image", "file": "a.png"}]


async def test_pages(readers: Readers) -> None:
    """Rows from the offset on, as many as wanted; behind the end none."""
    file = readers.put([[n, *ROWS[0][1:]] for n in range(1_000)], row_group_size=77)
    assert await ids(readers, file, offset=70, limit=20) == list(range(70, 90))
    assert await ids(readers, file, offset=995, limit=20) == list(range(995, 1_000))
    assert await ids(readers, file, offset=2**40, limit=20) == []
    assert await ids(readers, file, sort_column="id", is_descending=True, limit=3) == [
        999,
        998,
        997,
    ]


@pytest.mark.parametrize("is_descending", [False, True])
async def test_sorting(readers: Readers, is_descending: bool) -> None:
    """By number, text, bool or time; NaN and empty cells last either way, equal ones as logged."""
    file = readers.put(ROWS)
    for column, ascending in (
        ("id", [-(2**63), 7, 7, 2**53, 2**53 + 1, 2**63 - 1, None]),
        ("score", [7, 2**53, 7, 2**63 - 1, 2**53 + 1, -(2**63), None]),
    ):
        found = await ids(readers, file, sort_column=column, is_descending=is_descending)
        last = 1 if column == "id" else 2
        body = ascending[:-last]
        assert found == (body[::-1] if is_descending else body) + ascending[-last:]
    page = await readers.reader.read_page(
        file, TableAsk(sort_column="name", is_descending=is_descending)
    )
    names = ["", "Cat", "a cat", "cat", 'dog "x"\n', "été"]
    assert [json.loads(text)[2] for text in page.rows_json] == [
        *(names[::-1] if is_descending else names), None,
    ]  # fmt: skip
    twice = await ids(readers, file, sort_column="id", filters=where("id", OP.EQUAL, 7))
    assert twice == [7, 7]
    page = await readers.reader.read_page(
        file,
        TableAsk(sort_column="id", is_descending=is_descending, filters=where("id", OP.EQUAL, 7)),
    )
    assert [json.loads(text)[2] for text in page.rows_json] == ["cat", "a cat"]


FILTERS: list[tuple[str, TableFilterOperator, Any, list[int]]] = [
    ("id", OP.EQUAL, 2**53 + 1, [2]),
    ("id", OP.EQUAL, 7, [5, 6]),
    ("id", OP.NOT_EQUAL, 7, [0, 1, 2, 3, 4]),
    ("id", OP.LESS, 7.5, [1, 5, 6]),
    ("id", OP.GREATER, 6.5, [0, 2, 3, 5, 6]),
    ("id", OP.EQUAL, 7.5, []),
    ("id", OP.AT_LEAST, 2**53, [0, 2, 3]),
    ("id", OP.AT_MOST, 2**70, [0, 1, 2, 3, 5, 6]),
    ("id", OP.GREATER, math.inf, []),
    ("id", OP.LESS, math.inf, [0, 1, 2, 3, 5, 6]),
    ("id", OP.EQUAL, None, [4]),
    ("id", OP.NOT_EQUAL, None, [0, 1, 2, 3, 5, 6]),
    ("score", OP.LESS, 0.1, [3, 5, 6]),
    ("score", OP.AT_MOST, 0.1, [0, 3, 5, 6]),
    ("score", OP.AT_LEAST, 0, [0, 2, 3, 5]),
    ("score", OP.EQUAL, 0, [3]),
    ("score", OP.NOT_EQUAL, 0.1, [1, 2, 3, 4, 5, 6]),
    ("name", OP.EQUAL, "cat", [5]),
    ("name", OP.CONTAINS, "CAT", [0, 5, 6]),
    ("name", OP.MATCHES, "^[Cc]at$", [0, 5]),
    ("name", OP.LESS, "b", [0, 4, 6]),
    ("ok", OP.EQUAL, True, [0, 3, 6]),
    ("ok", OP.NOT_EQUAL, True, [1, 2, 4, 5]),
    ("at", OP.EQUAL, "2026-01-02T03:04:05.678901Z", [0, 4, 5]),
    ("at", OP.GREATER, "2026-01-02T04:04:05.678901+01:00", [1]),
    ("logits", OP.CONTAINS, "2.5", [0, 4]),
    ("logits", OP.EQUAL, None, [3]),
    ("picture", OP.NOT_EQUAL, None, [0, 5]),
    ("picture", OP.MATCHES, "b.png", [5]),
]


@pytest.mark.parametrize(
    ("column", "operator", "value", "expected"),
    FILTERS,
    ids=[f"{column} {operator.name} {value}" for column, operator, value, _ in FILTERS],
)
async def test_filters(
    readers: Readers, column: str, operator: TableFilterOperator, value: Any, expected: list[int]
) -> None:
    """Each comparison passes just the rows for which it holds; nothing is rounded on the way."""
    file = readers.put(ROWS)
    page = await readers.reader.read_page(file, TableAsk(filters=where(column, operator, value)))
    plain = await readers.reader.read_page(file, TableAsk())
    assert list(page.rows_json) == [plain.rows_json[place] for place in expected]
    assert (page.matching_count, page.row_count) == (len(expected), 7)


async def test_all_filters_must_hold(readers: Readers) -> None:
    """And offset, limit and order are those of the rows that pass."""
    file = readers.put(ROWS)
    both = (TableFilter("name", OP.CONTAINS, "cat"), TableFilter("id", OP.LESS, 100))
    assert await ids(readers, file, filters=both) == [7, 7]
    found = await ids(readers, file, filters=where("id", OP.LESS, 2**60), sort_column="id", offset=3, limit=1)  # fmt: skip
    assert found == [2**53]


# What is below is of Parquet files alone.


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[ParquetTables]:
    made = ParquetTables(tmp_path / "tables", TablesConfig())
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (TableAsk(sort_column="nope"), "no such column; it has 'id'"),
        (TableAsk(filters=where("nope", OP.EQUAL, 1)), "no such column"),
        (TableAsk(filters=where("id", OP.EQUAL, "x")), "of type number"),
        (TableAsk(filters=where("id", OP.EQUAL, True)), "of type number"),
        (TableAsk(filters=where("name", OP.LESS, 3)), "of type string"),
        (TableAsk(filters=where("name", OP.MATCHES, "(")), "regular expression"),
        (TableAsk(filters=where("name", OP.CONTAINS, 3)), "a text"),
        (TableAsk(filters=where("logits", OP.LESS, "x")), "CONTAINS and MATCHES"),
        (TableAsk(filters=where("at", OP.LESS, "yesterday")), "ISO 8601"),
        (TableAsk(filters=where("id", OP.LESS, None)), "null is equal"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    tables: ParquetTables, web: Web, ask: TableAsk, text: str
) -> None:
    """The error names the field, what was asked, and what is there."""
    with pytest.raises(InvalidArgument, match=text.replace("(", "\\(")) as caught:
        await tables.read_page(web.put(parquet(COLUMNS, ROWS)), ask)
    assert caught.value.reason == "FIELD_INVALID"


async def test_files_that_are_no_tables(tables: ParquetTables, web: Web, tmp_path: Path) -> None:
    """Other bytes, cut files, other bytes than were stored, a file that is gone: each told, and nothing is left on the disk."""
    whole = parquet(COLUMNS, ROWS)
    for content in (b"", b"PAR1 not a table PAR1", whole[: len(whole) // 2], whole[:-1]):
        with pytest.raises(InvalidArgument, match="holds no table"):
            await tables.read_page(web.put(content), TableAsk())
    other = web.put(whole)
    web.files[f"/{other.sha256}"] = whole[:-1] + b"x"
    with pytest.raises(Unavailable, match="came with SHA-256"):
        await tables.read_page(other, TableAsk())
    web.files.clear()
    with pytest.raises(Unavailable, match="did not give"):
        await tables.read_page(other, TableAsk())
    assert list((tmp_path / "tables").iterdir()) == []


async def test_tables_beyond_the_limits_are_refused(web: Web, tmp_path: Path) -> None:
    """By the size of the file, and by what it unpacks to: a small file may hold a large table."""
    dense = bytes_of(pa.table({"x": pa.array(["y" * 1_000] * 100_000)}))
    assert len(dense) < 1_000_000
    for config, text in (
        (TablesConfig(file_bytes_max=100), "of at most 100 are read"),
        (TablesConfig(table_bytes_max=10_000_000), "when unpacked"),
    ):
        reader = ParquetTables(tmp_path / "tables", config)
        with pytest.raises(InvalidArgument, match=text) as caught:
            await reader.read_page(web.put(dense), TableAsk())
        assert caught.value.reason == "FIELD_TOO_LARGE"
        assert list((tmp_path / "tables").glob("*")) == []
        await reader.close()


async def test_a_table_is_fetched_once(web: Web, tmp_path: Path) -> None:
    """However many ask at once; the one read longest ago makes room, and is fetched again when asked for."""
    import asyncio

    first, second = (web.put(parquet(COLUMNS, ROWS[n:])) for n in (0, 1))
    reader = ParquetTables(tmp_path / "tables", TablesConfig(cache_bytes_max=1))
    pages = await asyncio.gather(*(reader.read_page(first, TableAsk()) for _ in range(8)))
    assert len({page.rows_json for page in pages}) == 1
    assert web.requests == 1
    await reader.read_page(second, TableAsk())
    await reader.read_page(first, TableAsk(sort_column="id"))
    assert web.requests == 3
    assert [path.stem for path in (tmp_path / "tables").iterdir()] == [first.sha256]
    await reader.close()
    assert not (tmp_path / "tables").exists()


async def test_tables_of_other_programs(tables: ParquetTables, web: Web) -> None:
    """What is no simple type becomes text or JSON: nested lists, structs, dictionaries, decimals, bytes, dates, small floats."""
    import decimal

    table = pa.table(
        {
            "list": pa.array([[1, 2], None]),
            "struct": pa.array([{"a": math.nan, "b": b"\x01"}, None]),
            "category": pa.array(["x", "x"]).dictionary_encode(),
            "decimal": pa.array([decimal.Decimal("1.10"), None]),
            "bytes": pa.array([b"\x00\xff", None]),
            "date": pa.array([datetime.date(2026, 1, 2), None]),
            "naive": pa.array([START.replace(tzinfo=None), None], pa.timestamp("ns")),
            "float32": pa.array([0.1, math.inf], pa.float32()),
            "uint64": pa.array([2**64 - 1, 0], pa.uint64()),
        }
    )
    page = await tables.read_page(web.put(bytes_of(table)), TableAsk())
    assert [(one.name, one.type) for one in page.columns] == [
        ("list", "list"), ("struct", "object"), ("category", "string"), ("decimal", "string"),
        ("bytes", "string"), ("date", "datetime"), ("naive", "datetime"), ("float32", "number"), ("uint64", "number"),
    ]  # fmt: skip
    row = json.loads(page.rows_json[0])
    assert row[:6] == [[1, 2], {"a": {"$float": "NaN"}, "b": "01"}, "x", "1.10", "00ff", "2026-01-02"]  # fmt: skip
    assert row[6] == "2026-01-02T03:04:05.678901Z"
    assert row[7] == np.float32(0.1).item() and row[8] == 2**64 - 1
    found = await tables.read_page(
        web.put(bytes_of(table)), TableAsk(filters=where("uint64", OP.GREATER, 2**63))
    )
    assert found.matching_count == 1
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(DomainError, match="twice"):
        await tables.read_page(web.put(bytes_of(twice)), TableAsk())


async def test_memory_and_parquet_agree(tables: ParquetTables, web: Web) -> None:
    """Of drawn rows, filters and orders both give the same pages."""
    chance = np.random.default_rng(11)
    memory = MemoryTables()
    numbers = [None, 0, 1, -1, 2**53, 2**53 + 1, -(2**63)]
    floats = [None, 0.5, -0.5, math.nan, math.inf, 1e300]
    words = [None, "", "a", "B", "ab", "éa"]
    rows = [
        [
            numbers[chance.integers(7)], floats[chance.integers(6)], words[chance.integers(6)],
            [None, True, False][chance.integers(3)],
            None if chance.random() < 0.2 else START + datetime.timedelta(seconds=int(chance.integers(5))),
            None if chance.random() < 0.2 else f"[{chance.integers(3)}]", None,
        ]
        for _ in range(400)
    ]  # fmt: skip
    file = web.put(parquet(COLUMNS, rows, row_group_size=33))
    memory.add(file.sha256, COLUMNS, rows)
    values: dict[str, list[Any]] = {
        "id": [*numbers, 0.5], "score": [*floats, 1], "name": words, "ok": [True, False, None],
        "at": ["2026-01-02T03:04:07.678901Z", None],
    }  # fmt: skip
    comparisons = [op for op in OP if op not in (OP.CONTAINS, OP.MATCHES)]
    for _ in range(150):
        filters = []
        for column in chance.choice(list(values), int(chance.integers(3)), replace=False):
            value = values[column][chance.integers(len(values[column]))]
            operator = comparisons[chance.integers(len(comparisons))]
            if value is None:
                operator = (OP.EQUAL, OP.NOT_EQUAL)[chance.integers(2)]
            filters.append(TableFilter(str(column), operator, value))
        ask = TableAsk(
            offset=int(chance.integers(50)),
            limit=20,
            sort_column=("", "id", "score", "name", "ok", "at")[chance.integers(6)],
            is_descending=bool(chance.integers(2)),
            filters=tuple(filters),
        )
        assert await memory.read_page(file, ask) == await tables.read_page(file, ask), ask
