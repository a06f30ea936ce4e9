"""No sequence of calls leaves the drawn transitions: metadata under random starts, ends, verdicts and beats."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from runyard_server.domain.run import (
    LIVE_STATES,
    RunState,
    TransitionCause,
    is_transition_allowed,
)
from runyard_server.metadata.starts import StartedRun
from tests.unit.metadata.desk import Desk

T = TypeVar("T")
ENDS = (
    TransitionCause.FINISH_CALLED,
    TransitionCause.PROCESS_EXITED,
    TransitionCause.UNHANDLED_EXCEPTION,
    TransitionCause.SIGNAL,
    TransitionCause.PROCESS_VANISHED,
)


class RunMachine(RuleBasedStateMachine):
    """One run, whose writers come and go in any order."""

    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.loop = asyncio.new_event_loop()
        self.ended: set[int] = set()

    def teardown(self) -> None:
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(target=writers)
    def first(self) -> StartedRun:
        self.started = self.run(self.desk.start("x"))
        return self.started

    @rule(target=writers, label=st.sampled_from(["main", "rank1", "rank2"]))
    def start(self, label: str) -> StartedRun:
        return self.run(self.desk.start("x", writer_label=label))

    @rule(
        writer=writers,
        cause=st.sampled_from(ENDS),
        exit_code=st.sampled_from([None, 0, 1]),
    )
    def finish(self, writer: StartedRun, cause: TransitionCause, exit_code: int | None) -> None:
        before = self.run(self.desk.read(self.started))
        after = self.run(self.desk.finish(writer, cause, exit_code))
        if writer.writer.writer in self.ended:
            assert before == after
        self.ended.add(writer.writer.writer)

    @rule(age=st.integers(0, 1))
    def crash(self, age: int) -> None:
        document = self.run(self.desk.read(self.started))
        if document.attempt_count > age:
            self.run(self.desk.crash(document))

    @rule()
    def revive(self) -> None:
        self.run(self.desk.revive(self.run(self.desk.read(self.started))))

    @invariant()
    def history_is_drawn(self) -> None:
        """Each transition starts where the one before ended, and is one of the table; the last is the state."""
        if not hasattr(self, "started"):
            return
        steps = self.run(self.desk.history(self.started))
        state: RunState | None = None
        for step in steps:
            assert state is step.from_state
            assert is_transition_allowed(step.from_state, step.to_state, step.cause)
            state = step.to_state
        document = self.run(self.desk.read(self.started))
        assert state is document.state

    @invariant()
    def end_and_count_agree(self) -> None:
        """A run has an end exactly while it is not live; the project's counts follow."""
        if not hasattr(self, "started"):
            return
        document = self.run(self.desk.read(self.started))
        is_live = document.state in LIVE_STATES
        assert is_live == (document.end_time_unix_ns is None)
        project = self.run(self.desk.service.get_project("local/p"))
        assert (1, int(is_live)) == (project.run_count, project.live_run_count)

    @invariant()
    def a_run_ends_when_all_have(self) -> None:
        """A live run has a writer that has not ended."""
        if not hasattr(self, "started"):
            return
        document = self.run(self.desk.read(self.started))
        if document.state in LIVE_STATES:
            assert len(self.ended) < document.writer_count


RunMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestRunMachine = RunMachine.TestCase
