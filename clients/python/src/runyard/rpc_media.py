"""Reads what a run logged besides numbers: names, and values by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from runyard import extended_json
from runyard.rpc import QUERY, Connection
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.query.v1 import query_pb2

STEPS_PER_CALL = 1_000
_KIND_PREFIX = "MEDIA_KIND_"


@dataclasses.dataclass(frozen=True)
class MediaName:
    """A name under which a run logged media; `kind` is that of its last value."""

    name: str
    kind: str
    first_step: int
    last_step: int
    step_count: int


@dataclasses.dataclass(frozen=True)
class Bins:
    """A histogram: `counts[i]` values lie from `edges[i]` to `edges[i + 1]`, NaN and infinities in none."""

    edges: list[float]
    counts: list[float]
    non_finite_count: int


@dataclasses.dataclass(frozen=True)
class MediaRecord:
    """One value; see query.v1.StoredMedia."""

    name: str
    kind: str
    step: int
    time_s: float
    writer: int
    items: list[dict[str, Any]]
    bins: Bins | None
    file_run_path: str


@dataclasses.dataclass(frozen=True)
class MediaQuery:
    """Which values of one name are wanted; steps are included at both ends."""

    name: str
    first_step: int | None = None
    last_step: int | None = None
    writers: tuple[int, ...] = ()
    is_every_attempt: bool = False


def list_media(
    connection: Connection, path: str, *, name_contains: str, kinds: Sequence[str]
) -> Iterator[MediaName]:
    """Yields names in byte order; raises NotFound, and ValueError for a kind that there is not."""
    request = query_pb2.ListMediaRequest(
        run_path=path,
        name_contains=name_contains,
        kinds=[ingest_pb2.MediaKind.Value(_KIND_PREFIX + kind.upper()) for kind in kinds],
        page_size=10_000,
    )
    while True:
        reply = connection.call(QUERY + "ListMedia", request, query_pb2.ListMediaResponse)
        for one in reply.media:
            yield MediaName(
                one.name, _kind(one.kind), one.first_step, one.last_step, one.step_count
            )
        request.page_token = reply.next_page_token
        if not request.page_token:
            return


def sample_media(
    connection: Connection, path: str, query: MediaQuery, *, step_count_max: int
) -> list[MediaRecord]:
    """Returns the values of at most so many steps, chosen evenly, in order of step; fewer where they are very large."""
    reply = _ask(connection, path, query, step_count_max)
    return [_record(one) for series in reply.series for one in series.values]


def every_media(connection: Connection, path: str, query: MediaQuery) -> Iterator[MediaRecord]:
    """Yields all values, in order of step."""
    ranges = [(query.first_step, query.last_step)]
    while ranges:
        first, last = ranges.pop()
        some = dataclasses.replace(query, first_step=first, last_step=last)
        reply = _ask(connection, path, some, STEPS_PER_CALL)
        if not reply.series:
            continue
        (series,) = reply.series
        steps = sorted({one.value.step for one in series.values})
        if series.step_count > STEPS_PER_CALL and len(steps) > 1:
            middle = steps[len(steps) // 2]
            ranges += [(middle, last), (first, middle - 1)]
            continue
        # All up to the last one here: a reply is cut at its end only.
        yield from map(_record, series.values)
        if len(steps) < series.step_count:
            ranges.append((steps[-1] + 1, last))


@dataclasses.dataclass(frozen=True)
class TableRows:
    """Rows of a table, a value per column; see query.v1.QueryTableResponse."""

    columns: list[tuple[str, str]]
    """(name, type) of each."""
    rows: list[list[Any]]
    matching_count: int
    row_count: int


@dataclasses.dataclass(frozen=True)
class TableQuery:
    """Which rows of a table are wanted; `where` are (column, operator, value)."""

    offset: int = 0
    limit: int = 100
    sort: str = ""
    is_descending: bool = False
    where: tuple[tuple[Any, ...], ...] = ()


OPERATORS = {
    "==": query_pb2.TABLE_FILTER_OPERATOR_EQUAL,
    "!=": query_pb2.TABLE_FILTER_OPERATOR_NOT_EQUAL,
    "<": query_pb2.TABLE_FILTER_OPERATOR_LESS,
    "<=": query_pb2.TABLE_FILTER_OPERATOR_AT_MOST,
    ">": query_pb2.TABLE_FILTER_OPERATOR_GREATER,
    ">=": query_pb2.TABLE_FILTER_OPERATOR_AT_LEAST,
    "contains": query_pb2.TABLE_FILTER_OPERATOR_CONTAINS,
    "matches": query_pb2.TABLE_FILTER_OPERATOR_MATCHES,
}


def read_table(connection: Connection, path: str, file: str, query: TableQuery) -> TableRows:
    """Returns rows of a table; raises NotFound, InvalidArgument, KeyError for an operator that there is not."""
    request = query_pb2.QueryTableRequest(
        run_path=path,
        file=file,
        offset=query.offset,
        limit=query.limit,
        sort_column=query.sort,
        is_descending=query.is_descending,
        filters=[
            query_pb2.TableFilter(
                column=column, operator=OPERATORS[word], value_json=extended_json.dumps(value)
            )
            for column, word, value in query.where
        ],
    )
    reply = connection.call(QUERY + "QueryTable", request, query_pb2.QueryTableResponse)
    return TableRows(
        columns=[(one.name, one.type) for one in reply.columns],
        rows=[extended_json.loads(text) for text in reply.rows_json],
        matching_count=reply.matching_count,
        row_count=reply.row_count,
    )


def _ask(
    connection: Connection, path: str, query: MediaQuery, step_count_max: int
) -> query_pb2.QueryMediaResponse:
    steps = query_pb2.StepRange()
    if query.first_step is not None:
        steps.first_step = query.first_step
    if query.last_step is not None:
        steps.last_step = query.last_step
    request = query_pb2.QueryMediaRequest(
        run_paths=[path],
        names=[query.name],
        range=steps,
        step_count_max=step_count_max,
        writers=query.writers,
        attempts=query_pb2.ATTEMPT_SELECTION_ALL
        if query.is_every_attempt
        else query_pb2.ATTEMPT_SELECTION_CURRENT,
    )
    return connection.call(QUERY + "QueryMedia", request, query_pb2.QueryMediaResponse)


def _record(stored: query_pb2.StoredMedia) -> MediaRecord:
    value = stored.value
    bins = None
    if value.HasField("histogram"):
        found = value.histogram
        bins = Bins(list(found.edges), list(found.counts), found.non_finite_count)
    return MediaRecord(
        name=value.name,
        kind=_kind(value.kind),
        step=value.step,
        time_s=value.time_unix_ns / 1e9,
        writer=stored.writer,
        items=extended_json.loads(value.items_json) if value.items_json else [],
        bins=bins,
        file_run_path=stored.file_run_path,
    )


def _kind(number: int) -> str:
    known = ingest_pb2.MediaKind.DESCRIPTOR.values_by_number.get(number)
    return known.name[len(_KIND_PREFIX) :].lower() if known is not None else str(number)
