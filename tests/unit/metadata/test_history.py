"""Rewinds and forks: which points count afterwards, against a model that holds every point."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import FailedPrecondition
from runyard_server.domain.run import HistoryPart, RunDocument, RunKey, RunState
from runyard_server.metadata.history import (
    ANCESTOR_COUNT_MAX,
    forked_parts,
    parts_of,
    rewound_parts,
)


@dataclass
class Told:
    """A run of the model: its document, and the points that should count, as (run key, writer, step)."""

    document: RunDocument
    counted: set[tuple[int, int, int]]


def make_run(key: int) -> RunDocument:
    return RunDocument(RunKey(key), "e", "p", f"r{key}", "n", RunState.RUNNING)


def counts(parts: tuple[HistoryPart, ...], point: tuple[int, int, int]) -> bool:
    """Returns whether the parts hold the point, as HistoryPart defines it."""
    run_key, writer, step = point
    return any(
        part.run_key == run_key
        and (part.last_step is None or step <= part.last_step)
        and (part.writer_max == 0 or writer <= part.writer_max)
        and not any(writer <= cut.writer_max and step > cut.last_step for cut in part.cuts)
        for part in parts
    )


STEPS = st.integers(-3, 12)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.integers(0, 3), STEPS),
        st.tuples(st.just("rewind"), st.integers(0, 3), STEPS),
        st.tuples(st.just("fork"), st.integers(0, 3), STEPS),
        st.tuples(st.just("join"), st.integers(0, 3), STEPS),
    ),
    max_size=30,
)


@given(ACTS)
def test_exactly_what_was_not_superseded_counts(acts: list[tuple[str, int, int]]) -> None:
    """Whatever is logged, rewound and forked in whatever order: the parts hold what each act left, and nothing else."""
    runs = [Told(make_run(1), set())]
    points: set[tuple[int, int, int]] = set()
    for what, which, step in acts:
        told = runs[which % len(runs)]
        document = told.document
        if what == "log":
            point = (document.run_key, document.writer_count, step)
            points.add(point)
            told.counted.add(point)
        elif what == "join":
            told.document = replace(document, writer_count=document.writer_count + 1)
        elif what == "rewind":
            parts = rewound_parts(document, to_step=step)
            told.document = replace(
                document, history_parts=parts, writer_count=document.writer_count + 1
            )
            told.counted = {p for p in told.counted if p[2] <= step}
        else:
            child = make_run(len(runs) + 1)
            parts = forked_parts(document, step=step, run_key=child.run_key)
            child = replace(child, history_parts=parts)
            runs.append(Told(child, {p for p in told.counted if p[2] <= step}))
            # Late points of a writer of before the fork are the fork's too: here, another writer goes on.
            told.document = replace(document, writer_count=document.writer_count + 1)
        for one in runs:
            held = {p for p in points if counts(parts_of(one.document), p)}
            assert one.counted == held


def test_forks_have_a_depth_limit() -> None:
    """As many ancestors as are allowed, and no more; the error names the run and the limit."""
    run = make_run(1)
    for key in range(2, ANCESTOR_COUNT_MAX + 2):
        child = make_run(key)
        run = replace(child, history_parts=forked_parts(run, step=5, run_key=child.run_key))
    assert len(run.history_parts) == ANCESTOR_COUNT_MAX + 1
    with pytest.raises(FailedPrecondition, match=f"{ANCESTOR_COUNT_MAX} ancestors") as refused:
        forked_parts(run, step=5, run_key=RunKey(99))
    assert refused.value.reason == "FORK_TOO_DEEP"
