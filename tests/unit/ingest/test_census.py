"""The limit of metric names per run is exact once the store was asked, and runs of ordinary width never ask it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.run import RunKey
from runyard_server.ingest.census import MetricCensus

RUN, OTHER = RunKey(1), RunKey(2)


def test_the_limit_is_exact() -> None:
    """The n-th name passes, the next does not, those known pass always."""
    census = MetricCensus(metrics_per_run_max=3, ids_max=100)
    census.load(RUN, [7])
    assert census.admit(RUN, [1]) == []
    assert census.admit(RUN, [2, 3, 1, 7]) == [1]
    assert census.admit(RUN, [2, 1, 7]) == []
    assert census.admit(OTHER, [3]) == []


def test_ordinary_runs_ask_nothing() -> None:
    """The store is asked when an eighth of the limit is passed, once."""
    census = MetricCensus(metrics_per_run_max=80, ids_max=1000)
    assert not census.needs_load(RUN, list(range(10)))
    census.admit(RUN, list(range(10)))
    assert not census.needs_load(RUN, list(range(10)))
    assert census.needs_load(RUN, [10])
    census.load(RUN, [50])
    assert not census.needs_load(RUN, [10])


def test_memory_is_bounded_by_runs_seen_longest_ago() -> None:
    """Too many ids: the run seen longest ago is forgotten, and asked for again when it returns."""
    census = MetricCensus(metrics_per_run_max=8, ids_max=4)
    census.load(RUN, [1])
    census.admit(RUN, [1, 2])
    census.admit(OTHER, [1, 2])
    assert census.take_evictions() == 0
    census.admit(OTHER, [3])
    assert census.take_evictions() == 1
    assert census.needs_load(RUN, [1, 2])


@given(st.lists(st.lists(st.integers(0, 12), max_size=5), max_size=12), st.integers(1, 8))
def test_no_run_passes_its_limit(batches: list[list[int]], limit: int) -> None:
    """Whatever comes: as many names as the limit pass, the first ones, and these for ever."""
    census = MetricCensus(metrics_per_run_max=limit, ids_max=1000)
    census.load(RUN, [])
    known: list[int] = []
    for ids in batches:
        expected = []
        for position, one in enumerate(ids):
            if one in known:
                continue
            if len(known) < limit:
                known.append(one)
            else:
                expected.append(position)
        assert census.admit(RUN, ids) == expected
