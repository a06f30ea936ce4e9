"""Rows out of columns, page after page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.api_rows import RowShape, merged_rows, scanned_rows, spread_rows
from runyard.records import Columns

Points = dict[str, dict[tuple[int, int], float]]
"""Of each metric, by step and writer."""


def points(writer_max: int) -> st.SearchStrategy[Points]:
    places = st.tuples(st.integers(-20, 20), st.integers(1, writer_max))
    series = st.dictionaries(places, st.floats(allow_nan=False), max_size=12)
    return st.dictionaries(st.sampled_from(["a", "b", "c"]), series, max_size=3)


def columns_of(
    stored: Points, names: Sequence[str], first: int | None, last: int | None
) -> list[Columns]:
    found = []
    for name in names:
        places = [
            place
            for place in sorted(stored.get(name, {}))
            if (first is None or place[0] >= first) and (last is None or place[0] <= last)
        ]
        steps = [step for step, _ in places]
        times = [1_000_000_000 + step for step in steps]
        values = [stored[name][place] for place in places]
        found.append(Columns(name, steps, times, values, [writer for _, writer in places]))
    return found


def rows_of(
    stored: Points, *, is_every_key: bool = False, is_labelled: bool = False
) -> list[dict[str, Any]]:
    """Returns the rows that the points make, in the plainest way."""
    places = sorted({place for series in stored.values() for place in series})
    return [
        {"_step": step, "_timestamp": (1_000_000_000 + step) / 10**9}
        | ({"_writer": writer} if is_labelled else {})
        | {
            name: series[step, writer]
            for name, series in stored.items()
            if (step, writer) in series
        }
        for step, writer in places
        if not is_every_key or all((step, writer) in series for series in stored.values())
    ]


def of_one_writer(series: dict[int, float]) -> dict[tuple[int, int], float]:
    return {(step, 1): value for step, value in series.items()}


class Store:
    """Answers like QuerySeries: a limit per series, whole steps at least, and a step to go on from."""

    def __init__(self, stored: Points, cap: int = 1_000_000) -> None:
        self.stored, self.cap, self.calls = stored, cap, 0

    def __call__(
        self,
        path: str,
        metrics: Sequence[str],
        *,
        first_step: int | None,
        last_step: int | None,
        limit: int,
    ) -> tuple[list[Columns], int | None]:
        self.calls += 1
        columns = columns_of(self.stored, metrics, first_step, last_step)
        limit = min(limit, self.cap)
        cuts = [column.steps[limit] for column in columns if len(column.steps) > limit]
        if not cuts:
            return columns, None
        least = min(column.steps[0] for column in columns if column.steps)
        cut = max(min(cuts), least + 1)
        return columns_of(self.stored, metrics, first_step, cut - 1), cut


def scan(store: Store, shape: RowShape, page_size: int, **steps: int) -> list[dict[str, Any]]:
    wanted: dict[str, Any] = {"first_step": None, "last_step": None, **steps}
    return list(scanned_rows(store, "p", shape, page_size=page_size, **wanted))


@given(stored=points(3), is_every_key=st.booleans(), is_labelled=st.booleans())
def test_rows_are_the_points_by_step(stored: Points, is_every_key: bool, is_labelled: bool) -> None:
    """Columns of any steps become a row per step and writer, with any or with all of the metrics."""
    shape = RowShape(list(stored), is_every_key, is_labelled)
    rows = list(merged_rows(columns_of(stored, list(stored), None, None), shape))
    assert rows == rows_of(stored, is_every_key=is_every_key, is_labelled=is_labelled)


@given(
    stored=points(3),
    page_size=st.integers(1, 7),
    width=st.integers(1, 3),
    is_every_key=st.booleans(),
)
def test_scans_give_every_point_once(
    stored: Points, page_size: int, width: int, is_every_key: bool
) -> None:
    """However pages and metrics are cut, a scan is the rows of all points in step order, or of those with all metrics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runyard.api_rows.METRICS_PER_CALL", width)
        rows = scan(Store(stored), RowShape(list(stored), is_every_key), page_size)
    assert rows == rows_of(stored, is_every_key=is_every_key)


def test_scans_of_a_range() -> None:
    """A scan keeps to its range."""
    stored = {"a": of_one_writer({step: float(step) for step in range(100)})}
    rows = scan(Store(stored), RowShape(["a"]), 3, first_step=10, last_step=19)
    assert [row["_step"] for row in rows] == list(range(10, 20))


def test_a_scan_goes_past_where_a_key_is_missing() -> None:
    """Where a key has no point for long, its next one is asked for: the other's points between are not read."""
    often = of_one_writer({step: float(step) for step in range(10_000)})
    seldom = of_one_writer({5: 0.5, 6_000: 0.25, 20_000: 1.0})
    store = Store({"often": often, "seldom": seldom})
    rows = scan(store, RowShape(["often", "seldom"], is_every_key=True), 100)
    assert [row["_step"] for row in rows] == [5, 6_000]
    assert store.calls <= 8
    never = Store({"often": often})
    assert scan(never, RowShape(["often", "never"], is_every_key=True), 100) == []
    assert never.calls == 2


def test_values_of_two_writers_are_never_in_one_row() -> None:
    """Of writers that log one step each has a row; one that logged only some of the keys has none where all are wanted."""
    loss = Columns("loss", [0, 0, 1, 1], [5, 6, 7, 8], [1.0, 2.0, 3.0, 4.0], [1, 2, 1, 2])
    best = Columns("best", [1], [9], [0.5], [1])
    rows = merged_rows(
        [loss, best], RowShape(["loss", "best"], is_every_key=True, is_labelled=True)
    )
    assert list(rows) == [{"_step": 1, "_timestamp": 9e-9, "_writer": 1, "loss": 3.0, "best": 0.5}]
    rows = merged_rows([loss], RowShape(["loss"]))
    assert [(row["_step"], row["loss"]) for row in rows] == [(0, 1.0), (0, 2.0), (1, 3.0), (1, 4.0)]


def test_rows_may_be_steps() -> None:
    """Whoever logged them; of several writers the last one's point stands."""
    loss = Columns("loss", [0, 0, 1, 1], [5, 6, 7, 8], [1.0, 2.0, 3.0, 4.0], [1, 2, 1, 2])
    best = Columns("best", [1, 2], [9, 9], [0.5, 0.25], [3, 3])
    shape = RowShape(["loss", "best"], is_every_key=True, is_by_step=True)
    assert list(merged_rows([loss, best], shape)) == [
        {"_step": 1, "_timestamp": 9e-9, "loss": 4.0, "best": 0.5}
    ]
    rows = merged_rows([loss], RowShape(["loss"], is_by_step=True))
    assert [(row["_step"], row["loss"]) for row in rows] == [(0, 2.0), (1, 4.0)]


@given(count=st.integers(0, 60), count_max=st.integers(1, 12))
def test_rows_are_spread_evenly(count: int, count_max: int) -> None:
    """All where they fit; else so many at least that each stands for its share, the last one among them."""
    kept = [row["_step"] for row in spread_rows(({"_step": n} for n in range(count)), count_max)]
    assert kept == sorted(set(kept)) and kept[-1:] == list(range(count))[-1:]
    assert len(kept) == count if count <= count_max else count_max // 2 <= len(kept) <= count_max


def test_times_have_no_noise() -> None:
    """A time of milliseconds reads as one."""
    column = Columns("a", [0], [1_795_555_740_242_000_000], [1.0])
    row = next(merged_rows([column], RowShape(["a"])))
    assert repr(row["_timestamp"]) == "1795555740.242"


def test_metrics_called_like_keys_of_rows_do_not_hide_them() -> None:
    """The step and time of a row stand, whatever a metric is called."""
    step, late = Columns("_step", [3], [5], [77.0]), Columns("a", [4], [6], [1.0])
    shape = RowShape(["_step", "a"])
    assert list(merged_rows([step], shape)) == [{"_step": 3, "_timestamp": 5e-9}]
    assert list(merged_rows([step, late], shape)) == [
        {"_step": 3, "_timestamp": 5e-9},
        {"_step": 4, "_timestamp": 6e-9, "a": 1.0},
    ]
