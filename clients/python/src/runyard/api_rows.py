"""Columns of points become rows of a history.

loss:  steps 0 1 2 3      any key:    0 {loss}  1 {loss, acc}  2 {loss}  3 {loss, acc}
acc:   steps   1   3      every key:            1 {loss, acc}            3 {loss, acc}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from runyard.records import ROW_KEYS, Columns

METRICS_PER_CALL = 1000
NS_PER_S = 1_000_000_000
"""An int, for then the division is exact to the last digit that a float has."""
PAGE_SIZE_MAX = 200_000


class QuerySeries(Protocol):
    """Asks for stored points; see rpc.Client.query_series."""

    def __call__(
        self,
        path: str,
        metrics: Sequence[str],
        *,
        first_step: int | None,
        last_step: int | None,
        limit: int,
    ) -> tuple[list[Columns], int | None]:
        """Returns columns and the step to go on from."""
        ...


@dataclasses.dataclass(frozen=True)
class RowShape:
    """Which rows there are, and what they hold."""

    keys: Sequence[str]
    """Names of metrics, each once."""
    is_every_key: bool = False
    """True: only rows in which every key has a value. False: rows with any of them."""
    is_labelled: bool = False
    """True: each row has the number of its writer."""
    is_by_step: bool = False
    """True: one row for a step, with the points of its last writers. False: one for each writer of a step."""
    is_bare: bool = False
    """True: the rows hold no metric, only what every row has."""

    @property
    def row_keys(self) -> tuple[str, ...]:
        """Returns the keys that every row has."""
        return (*ROW_KEYS, "_writer") if self.is_labelled else ROW_KEYS

    def is_shown(self, metric: str) -> bool:
        """Returns whether rows hold the metric; one that is called like a key of every row does not hide that."""
        return not self.is_bare and metric not in self.row_keys


def merged_rows(columns: Sequence[Columns], shape: RowShape) -> Iterator[dict[str, Any]]:
    """Yields one dict per step and writer, in this order; its time is the latest of its points."""
    filled = [column for column in columns if column.steps]
    if shape.is_by_step:
        filled = [_at_steps(column) for column in filled]
    if not filled or (shape.is_every_key and len(filled) < len(shape.keys)):
        return
    first = filled[0]
    if any((one.steps, one.writers) != (first.steps, first.writers) for one in filled):
        if not shape.is_every_key:
            yield from _gathered_rows(filled, shape)
            return
        filled = _at_shared_places(filled)
    yield from _aligned_rows(filled, shape)


def scanned_rows(
    query_series: QuerySeries,
    path: str,
    shape: RowShape,
    *,
    first_step: int | None,
    last_step: int | None,
    page_size: int,
) -> Iterator[dict[str, Any]]:
    """Yields the rows of all points of the metrics in a range of steps, fetching a page at a time."""
    limit = max(1, min(page_size, PAGE_SIZE_MAX))
    names = shape.keys
    while names:
        page: list[Columns] = []
        next_step: int | None = None
        page_last_step = last_step
        for start in range(0, len(names), METRICS_PER_CALL):
            chunk = names[start : start + METRICS_PER_CALL]
            columns, cut_step = query_series(
                path, chunk, first_step=first_step, last_step=page_last_step, limit=limit
            )
            page += columns
            if cut_step is not None:  # the chunks after this one are asked up to here only
                next_step, page_last_step = cut_step, cut_step - 1
        if next_step is not None:
            page = [_cut(column, next_step) for column in page]
        yield from merged_rows(page, shape)
        if next_step is None:
            return
        missing = next((one.metric for one in page if not one.steps), None)
        if shape.is_every_key and missing is not None:  # no row before that one's next point
            columns, _ = query_series(
                path, [missing], first_step=next_step, last_step=last_step, limit=1
            )
            if not columns[0].steps:
                return
            next_step = columns[0].steps[0]
        first_step = next_step


def spread_rows(rows: Iterable[dict[str, Any]], count_max: int) -> list[dict[str, Any]]:
    """Returns at most that many of the rows, at even distances, the last one among them; holds no more than it returns."""
    kept: list[dict[str, Any]] = []
    distance = 1
    row = None
    for number, row in enumerate(rows):
        if number % distance == 0 and len(kept) == count_max:
            kept, distance = kept[::2], distance * 2
        if number % distance == 0:
            kept.append(row)
    if row is not None:
        kept[-1] = row
    return kept


def _aligned_rows(columns: Sequence[Columns], shape: RowShape) -> Iterator[dict[str, Any]]:
    """Yields the rows of metrics that were all logged at the same places, as almost always."""
    first = columns[0]
    times = first.times_unix_ns
    if any(column.times_unix_ns != times for column in columns):
        times = [max(stamps) for stamps in zip(*(column.times_unix_ns for column in columns))]
    shown = [column for column in columns if shape.is_shown(column.metric)]
    names = (*shape.row_keys, *(column.metric for column in shown))
    seconds = [time_unix_ns / NS_PER_S for time_unix_ns in times]
    labels = (first.writers,) if shape.is_labelled else ()
    for row in zip(first.steps, seconds, *labels, *(column.values for column in shown)):
        yield dict(zip(names, row))


def _gathered_rows(columns: Sequence[Columns], shape: RowShape) -> Iterator[dict[str, Any]]:
    """Yields the rows of metrics that were logged at places of their own."""
    rows: dict[Hashable, dict[str, Any]] = {}
    times: dict[Hashable, int] = {}
    for column, places in zip(columns, _places(columns)):
        is_shown = shape.is_shown(column.metric)
        writers = column.writers if shape.is_labelled else (0,) * len(column.steps)
        for place, step, writer, time_unix_ns, value in zip(
            places, column.steps, writers, column.times_unix_ns, column.values
        ):
            row = rows.get(place)
            if row is None:
                row = rows[place] = dict(zip(shape.row_keys, (step, 0.0, writer)))
                times[place] = time_unix_ns
            elif time_unix_ns > times[place]:
                times[place] = time_unix_ns
            if is_shown:
                row[column.metric] = value
    for place in sorted(rows):  # type: ignore[type-var]  # all are steps, or all are pairs
        rows[place]["_timestamp"] = times[place] / NS_PER_S
        yield rows[place]


def _at_steps(column: Columns) -> Columns:
    """Returns the column with one point for a step, that of its last writer, and no word of writers."""
    number_of = dict(zip(column.steps, range(len(column.steps))))
    if len(number_of) < len(column.steps):
        column = _taken(column, list(number_of.values()))
    return dataclasses.replace(column, writers=())


def _at_shared_places(columns: Sequence[Columns]) -> list[Columns]:
    """Returns the columns without the points at places that not all of them have."""
    places = _places(columns)
    shared = sorted(set(places[0]).intersection(*places[1:]))
    found = []
    for column, own in zip(columns, places):
        number_of = dict(zip(own, range(len(own))))
        numbers = [number_of[place] for place in shared]
        found.append(_taken(column, numbers))
    return found


def _places(columns: Sequence[Columns]) -> Sequence[Sequence[Any]]:
    """Returns for each column what its rows are told apart by: steps, or with several writers (step, writer)."""
    writers = {writer for column in columns for writer in set(column.writers)}
    if len(writers) <= 1:
        return [column.steps for column in columns]
    return [list(zip(column.steps, column.writers)) for column in columns]


def _cut(column: Columns, next_step: int) -> Columns:
    """Returns the column without points at or behind the step."""
    if not column.steps or column.steps[-1] < next_step:
        return column
    return _taken(column, range(sum(step < next_step for step in column.steps)))


def _taken(column: Columns, numbers: Sequence[int]) -> Columns:
    """Returns the column with the points of these numbers."""
    return dataclasses.replace(
        column,
        steps=[column.steps[number] for number in numbers],
        times_unix_ns=[column.times_unix_ns[number] for number in numbers],
        values=[column.values[number] for number in numbers],
        writers=[column.writers[number] for number in numbers] if column.writers else (),
    )
