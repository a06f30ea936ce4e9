"""Turns messages of query.v1 about tables into the domain's words and back; decides nothing."""

from __future__ import annotations

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.tables import TablePage
from runyard_server.query.tables import AskedFilter, TableRequest


def table_request(request: pb.QueryTableRequest) -> TableRequest:
    """Returns what the message asks for."""
    return TableRequest(
        run_path=request.run_path,
        file=request.file,
        offset=request.offset,
        limit=request.limit,
        sort_column=request.sort_column,
        is_descending=request.is_descending,
        filters=tuple(
            AskedFilter(one.column, one.operator, one.value_json) for one in request.filters
        ),
    )


def table_page(page: TablePage) -> pb.QueryTableResponse:
    """Returns the message that says it."""
    return pb.QueryTableResponse(
        columns=[pb.TableColumn(name=one.name, type=one.type) for one in page.columns],
        rows_json=page.rows_json,
        matching_count=page.matching_count,
        row_count=page.row_count,
    )
