"""Columns of points become rows of a history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def merged_rows(columns: Sequence[Columns], *, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields one dict per step that any metric has, in step order; its time is the latest of its points.

    Where several writers logged one step, the one of the highest number is shown.
    """
    filled = [column for column in columns if column.steps]
    if not filled:
        return
    steps = filled[0].steps
    if all(column.steps == steps for column in filled) and len(set(steps)) == len(steps):
        yield from _aligned_rows(filled)
        return
    order = {key: position for position, key in enumerate(keys)}
    rows: dict[int, dict[str, Any]] = {}
    times: dict[int, int] = {}
    for column in sorted(filled, key=lambda column: order.get(column.metric, 0)):
        for step, time_unix_ns, value in zip(column.steps, column.times_unix_ns, column.values):
            row = rows.get(step)
            if row is None:
                row = rows[step] = {"_step": step, "_timestamp": 0.0}
                times[step] = time_unix_ns
            elif time_unix_ns > times[step]:
                times[step] = time_unix_ns
            if column.metric not in ROW_KEYS:
                row[column.metric] = value
    for step in sorted(rows):
        rows[step]["_timestamp"] = times[step] / NS_PER_S
        yield rows[step]


def scanned_rows(
    query_series: QuerySeries,
    path: str,
    names: Sequence[str],
    *,
    first_step: int | None,
    last_step: int | None,
    page_size: int,
) -> Iterator[dict[str, Any]]:
    """Yields the rows of all points of the metrics in a range of steps, fetching a page at a time."""
    limit = max(1, min(page_size, PAGE_SIZE_MAX))
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
        yield from merged_rows(page, keys=names)
        if next_step is None:
            return
        first_step = next_step


def _aligned_rows(columns: Sequence[Columns]) -> Iterator[dict[str, Any]]:
    """Yields the rows of metrics that were all logged at the same steps, as almost always."""
    times = columns[0].times_unix_ns
    if any(column.times_unix_ns != times for column in columns):
        times = [max(stamps) for stamps in zip(*(column.times_unix_ns for column in columns))]
    shown = [column for column in columns if column.metric not in ROW_KEYS]
    names = ("_step", "_timestamp", *(column.metric for column in shown))
    seconds = [time_unix_ns / NS_PER_S for time_unix_ns in times]
    for row in zip(columns[0].steps, seconds, *(column.values for column in shown)):
        yield dict(zip(names, row))


def _cut(column: Columns, next_step: int) -> Columns:
    """Returns the column without points at or behind the step."""
    if not column.steps or column.steps[-1] < next_step:
        return column
    count = sum(step < next_step for step in column.steps)
    return Columns(
        column.metric, column.steps[:count], column.times_unix_ns[:count], column.values[:count]
    )
