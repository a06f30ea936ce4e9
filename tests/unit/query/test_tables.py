"""QueryTable through the handler: what is asked of the reader, whose file is read, and what cannot be asked."""

from __future__ import annotations

import pytest

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.errors import DomainError
from runyard_server.domain.tables import TableColumn
from tests.unit.query.test_service import World

ROWS = [[2**53 + n, f"row {n}", None] for n in range(250)]


@pytest.fixture
def world() -> World:
    made = World()
    made.tables.add(
        "00",
        [TableColumn("id", "number"), TableColumn("name", "string"), TableColumn("x", "object")],
        ROWS,
    )
    return made


async def ask(world: World, **fields: object) -> pb.QueryTableResponse:
    request = pb.QueryTableRequest(**{"run_path": "e/p/r", "file": "t.parquet", **fields})  # type: ignore[arg-type]  # fields of the message
    return await world.rpc.QueryTable(request, None)


async def test_rows_come_by_page(world: World) -> None:
    """A hundred at first, with columns and counts; sorted and filtered as asked."""
    reply = await ask(world)
    assert [(one.name, one.type) for one in reply.columns] == [
        ("id", "number"),
        ("name", "string"),
        ("x", "object"),
    ]
    assert (len(reply.rows_json), reply.row_count, reply.matching_count) == (100, 250, 250)
    assert reply.rows_json[1] == '[9007199254740993,"row 1",null]'
    filters = [
        pb.TableFilter(column="name", operator=pb.TABLE_FILTER_OPERATOR_CONTAINS, value_json='"7"'),
        pb.TableFilter(
            column="id", operator=pb.TABLE_FILTER_OPERATOR_LESS, value_json=str(2**53 + 100)
        ),
    ]
    reply = await ask(
        world, filters=filters, sort_column="id", is_descending=True, offset=1, limit=2
    )
    assert reply.matching_count == 19
    assert list(reply.rows_json) == [
        f'[{2**53 + 87},"row 87",null]',
        f'[{2**53 + 79},"row 79",null]',
    ]


def one_filter(value_json: str, operator: int = 1) -> dict[str, object]:
    return {"filters": [pb.TableFilter(column="id", operator=operator, value_json=value_json)]}  # type: ignore[arg-type]  # a number of the enum, or none


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        ({"run_path": "e/p"}, "FIELD_INVALID", "run path"),
        ({"file": ""}, "FIELD_INVALID", "name the file"),
        ({"file": "other.parquet"}, "FILE_NOT_FOUND", "other.parquet"),
        ({"sort_column": "none"}, "FIELD_INVALID", "no such column"),
        (one_filter("1", 0), "FIELD_INVALID", "operator"),
        (one_filter("1", 9), "FIELD_INVALID", "operator"),
        (one_filter(""), "FIELD_INVALID", "no JSON"),
        (one_filter("NaN"), "FIELD_INVALID", "bare NaN"),
        (one_filter("[1]"), "FIELD_INVALID", "a string, a number"),
        (one_filter('"' + "x" * 5_000 + '"'), "FIELD_INVALID", "4096 characters"),
        ({"filters": [pb.TableFilter()] * 21}, "FIELD_INVALID", "at most 20"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    world: World, fields: dict[str, object], reason: str, text: str
) -> None:
    """The error says which field, what was asked, and what may be."""
    with pytest.raises(DomainError) as caught:
        await ask(world, **fields)
    assert caught.value.reason == reason
    assert text in caught.value.message
