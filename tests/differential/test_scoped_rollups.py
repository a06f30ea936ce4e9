"""Stored buckets change no answer about a run with a history of its own, whatever was rewound, forked and rolled up when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_server.domain.run import Cut, HistoryPart, RunKey
from runyard_server.storage.clickhouse import points_scoped_long, points_scoped_stats_sql
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.ports.points import BucketColumns, MetricStats, Scope, SeriesKey
from tests.differential.test_buckets import (
    METRIC,
    NEAR_STEPS,
    Row,
    Yard,
    assert_identical,
    blocks,
    unique_sequences,
)
from tests.stores import new_run_key

OWN, PARENT = 0, 1


@pytest.fixture(scope="module")
def yard(clickhouse: ClickHouse) -> Iterator[Yard]:
    one = Yard(clickhouse)
    yield one
    one.loop.close()


parts = st.builds(
    HistoryPart,
    run_key=st.just(RunKey(OWN)),
    last_step=st.none() | NEAR_STEPS,
    writer_max=st.integers(0, 2),
    cuts=st.lists(
        st.builds(Cut, writer_max=st.integers(0, 2), last_step=NEAR_STEPS), max_size=2
    ).map(tuple),
)


@st.composite
def scopes(draw: Any) -> Scope:
    """Returns a scope of the run itself and, often, of the one that it is a fork of."""
    own = draw(parts)
    ancestors = [
        replace(part, run_key=RunKey(PARENT)) for part in draw(st.lists(parts, max_size=1))
    ]
    return Scope((own, *ancestors), draw(st.lists(st.integers(0, 2), max_size=1).map(tuple)))


def of_runs(scope: Scope, runs: tuple[RunKey, RunKey]) -> Scope:
    return replace(
        scope, parts=tuple(replace(part, run_key=runs[part.run_key]) for part in scope.parts)
    )


@settings(max_examples=25)
@given(
    own=blocks(NEAR_STEPS),
    parent=blocks(NEAR_STEPS),
    roll_after=st.sets(st.integers(0, 4), min_size=1),
    scope=scopes(),
    count_max=st.integers(2, 24),
    first=st.none() | NEAR_STEPS,
    last=st.none() | NEAR_STEPS,
    pieces_per_query=st.sampled_from([1, 32]),
    named_max=st.sampled_from([0, 2_000]),
)
def test_stored_buckets_change_no_answer_about_a_rewound_run(
    yard: Yard,
    own: list[list[Row]],
    parent: list[list[Row]],
    roll_after: set[int],
    scope: Scope,
    count_max: int,
    first: int | None,
    last: int | None,
    pieces_per_query: int,
    named_max: int,
) -> None:
    """Buckets, means and what is known of the metric are the same, bit by bit, with stored buckets and without."""
    rolled = (new_run_key(), new_run_key())
    plain = (new_run_key(), new_run_key())
    for number, rows in enumerate((own, parent)):
        for index, part in enumerate(unique_sequences(rows)):
            for run in (rolled[number], plain[number]):
                yard.insert(run, part)
            if index in roll_after:
                yard.roll_up(rolled[number])
        for run in (rolled[number], plain[number]):
            yard.catalogue(run)
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(points_scoped_long, "_PIECES_PER_QUERY_MAX", pieces_per_query)
        limits.setattr(points_scoped_stats_sql, "UNSURE_NAMED_MAX", named_max)
        compare(yard, (plain, rolled), scope, count_max, (first, last))


def compare(
    yard: Yard,
    ways: tuple[tuple[RunKey, RunKey], tuple[RunKey, RunKey]],
    scope: Scope,
    count_max: int,
    steps: tuple[int | None, int | None],
) -> None:
    """Reads the same of two pairs of runs, the run itself and its parent."""
    plain, rolled = ways
    first, last = steps
    expected, found = (
        [
            read_buckets(yard, runs, scope, 2),
            read_buckets(yard, runs, scope, count_max),
            read_buckets(yard, runs, scope, count_max, (first, last)),
        ]
        for runs in (plain, rolled)
    )
    for one, other in zip(expected, found, strict=True):
        assert_identical(one, other)
    np.testing.assert_equal(read_mean(yard, plain, scope), read_mean(yard, rolled, scope))
    assert read_stats(yard, plain, scope) == read_stats(yard, rolled, scope)


def read_buckets(
    yard: Yard,
    runs: tuple[RunKey, RunKey],
    scope: Scope,
    count_max: int,
    steps: tuple[int | None, int | None] = (None, None),
) -> BucketColumns | None:
    key = SeriesKey(runs[OWN], METRIC)
    found = yard.loop.run_until_complete(
        yard.reader.read_buckets(
            [key],
            first_step=steps[0],
            last_step=steps[1],
            bucket_count_max=count_max,
            scopes={runs[OWN]: of_runs(scope, runs)},
        )
    )
    return found.get(key)


def read_mean(yard: Yard, runs: tuple[RunKey, RunKey], scope: Scope) -> float:
    key = SeriesKey(runs[OWN], METRIC)
    means = yard.reader.read_means([key], scopes={runs[OWN]: of_runs(scope, runs)})
    return yard.loop.run_until_complete(means)[key]


def read_stats(
    yard: Yard, runs: tuple[RunKey, RunKey], scope: Scope
) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Returns the stats as values that can be compared, NaN too."""
    stats, total = yard.loop.run_until_complete(
        yard.reader.list_metrics(
            runs[OWN],
            name_contains="",
            after_name="",
            limit=10,
            scopes={runs[OWN]: of_runs(scope, runs)},
        )
    )
    assert total == len(stats)
    return [comparable(one) for one in stats]


def comparable(one: MetricStats) -> tuple[str, tuple[int, ...], bytes]:
    floats = np.array([one.first, one.last, one.low, one.high])
    floats = np.where(np.isnan(floats), np.nan, floats)
    return one.name, (one.first_step, one.last_step, one.last_time_unix_ns), floats.tobytes()
