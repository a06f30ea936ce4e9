"""The state machine of runs, and what the ends of writers mean."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.run import (
    LIVE_STATES,
    RUN_TRANSITIONS,
    RunKey,
    RunState,
    TransitionCause,
    end_state,
    is_transition_allowed,
)
from runyard_server.domain.writers import Writer, WriterEnd, run_outcome, silent_outcome


def test_every_state_is_drawn() -> None:
    """Each state has its row, and each can be reached and left."""
    assert {None, *RunState} == set(RUN_TRANSITIONS)
    reached = {state for row in RUN_TRANSITIONS.values() for state in row}
    assert set(RunState) == reached
    assert all(RUN_TRANSITIONS.values())


def test_only_a_resume_or_a_beat_wakes_an_ended_run() -> None:
    """From a state that is not live, a run goes back by RESUMED, or from crashed by a late heartbeat."""
    for before in set(RunState) - LIVE_STATES:
        for after in LIVE_STATES:
            causes = RUN_TRANSITIONS[before].get(after, frozenset())
            allowed = {TransitionCause.RESUMED}
            if before is RunState.CRASHED:
                allowed.add(TransitionCause.HEARTBEAT_RETURNED)
            assert causes <= allowed


def test_silence_means_crashed_only() -> None:
    """The monitor's cause leads to crashed, and only from live states."""
    for before, row in RUN_TRANSITIONS.items():
        for after, causes in row.items():
            if TransitionCause.HEARTBEAT_LOST in causes:
                assert before in LIVE_STATES
                assert RunState.CRASHED is after


def test_each_end_fits_the_machine() -> None:
    """Whatever state an end means, a running run may go there for its cause."""
    for cause in (
        TransitionCause.FINISH_CALLED,
        TransitionCause.PROCESS_EXITED,
        TransitionCause.UNHANDLED_EXCEPTION,
        TransitionCause.SIGNAL,
        TransitionCause.PROCESS_VANISHED,
        TransitionCause.USER_REQUEST,
    ):
        for exit_code in (None, 0, 1, -9):
            state = end_state(cause, exit_code)
            for before in LIVE_STATES:
                assert is_transition_allowed(before, state, cause), (before, state, cause)


def make_writers(ends: list[tuple[str, RunState | None, int]]) -> list[Writer]:
    writers = []
    for number, (label, state, time) in enumerate(ends, start=1):
        end = None
        if state is not None:
            end = WriterEnd(state, TransitionCause.FINISH_CALLED, None, "", time, 1)
        writers.append(
            Writer(RunKey(1), number, f"r{number}", label, 1, False, number * 10, end=end)
        )
    return writers


ENDS = st.sampled_from([RunState.FINISHED, RunState.FAILED, RunState.CRASHED, RunState.KILLED])
WRITERS = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | ENDS, st.integers(0, 60)), max_size=6
).map(make_writers)


@given(WRITERS)
def test_a_run_lives_while_a_writer_does(writers: list[Writer]) -> None:
    """There is an outcome exactly when writers are there and all ended."""
    is_over = bool(writers) and all(writer.end for writer in writers)
    assert is_over == (run_outcome(writers) is not None)


@given(WRITERS)
def test_the_last_of_each_label_always_counts(writers: list[Writer]) -> None:
    """A process that nobody replaced decides: the outcome is at least as bad as its end."""
    order = [RunState.FINISHED, RunState.KILLED, RunState.CRASHED, RunState.FAILED]
    outcome = run_outcome(writers)
    if outcome is None:
        return
    last = {writer.label: writer for writer in writers}
    for writer in last.values():
        assert writer.end is not None
        assert order.index(writer.end.state) <= order.index(outcome.state)


@given(WRITERS)
def test_silence_never_overrules_a_living_last_writer(writers: list[Writer]) -> None:
    """If the newest process of some label never ended, silence has no outcome but the crash itself."""
    last = {writer.label: writer for writer in writers}
    if any(writer.end is None for writer in last.values()):
        assert silent_outcome(writers) is None


@given(WRITERS)
def test_replacing_a_vanished_process_heals_it(writers: list[Writer]) -> None:
    """A vanished process with a successor never makes the outcome worse than it is without it."""
    outcome = run_outcome(writers)
    if outcome is None:
        return
    newest = writers[-1]
    assert newest.end is not None
    vanished = replace(
        newest, end=replace(newest.end, state=RunState.CRASHED), writer=0, request_id="r0"
    )
    assert outcome == run_outcome([vanished, *writers])
