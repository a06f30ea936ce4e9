"""I6 under any beats, clock jumps, absences and restarts: a state machine over monitor and metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runyard_server.domain.beats import Beat
from runyard_server.domain.errors import Unavailable
from runyard_server.domain.run import LIVE_STATES, LiveRun, RunKey, RunState
from runyard_server.metadata.starts import StartedRun
from runyard_server.monitor.liveness import LivenessTable
from runyard_server.monitor.watched import LivenessRules
from tests.unit.monitor.ward import Ward

T = TypeVar("T")
RUN_COUNT = 3
TIMEOUT_S = 60.0
RULES = LivenessRules(crash_timeout_s=TIMEOUT_S)


class MonitorMachine(RuleBasedStateMachine):
    """A few runs, whose agents beat when they like, under faults of everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ward = Ward()
        self.heard_s: dict[int, float] = {}
        self.reached_s: dict[int, float] = {}
        self.hearing_since_s = 0.0
        self.crashes = [0] * RUN_COUNT
        self.runs: list[StartedRun] = []

    def teardown(self) -> None:
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.runs = [self.run(self.ward.desk.start(f"r{n}")) for n in range(RUN_COUNT)]
        self.heard_s = dict.fromkeys(range(RUN_COUNT), self.ward.clock.elapsed_s)
        self.reached_s = dict(self.heard_s)

    @rule(seconds=st.sampled_from([0.5, 5.0, 29.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.ward.pass_time(seconds))

    @rule(numbers=st.sets(st.integers(0, RUN_COUNT - 1)))
    def beat(self, numbers: set[int]) -> None:
        try:
            self.run(self.ward.beat(*(self.runs[n] for n in sorted(numbers))))
        except Unavailable:
            # A monitor that cannot ask metadata, or could not for longer than its lease, says so: the agent repeats.
            roster = self.ward.monitor.roster
            assert self.ward.directory.is_away or roster.is_lapsed(self.ward.clock.elapsed_s)
            return
        for number in numbers:
            self.heard_s[number] = self.ward.clock.elapsed_s
            if not self.ward.directory.is_away:
                self.reached_s[number] = self.ward.clock.elapsed_s

    @rule(seconds=st.sampled_from([6.0, 100.0]))
    def stall(self, seconds: float) -> None:
        self.ward.clock.advance(seconds)
        self.hearing_since_s = self.ward.clock.elapsed_s

    @rule()
    def restart_monitor(self) -> None:
        self.ward.start_monitor()
        self.hearing_since_s = self.ward.clock.elapsed_s

    @rule(jump_s=st.sampled_from([-(10**5), 10**5]))
    def jump_wall_clock(self, jump_s: int) -> None:
        self.ward.clock.unix_ns += jump_s * 10**9

    @rule()
    def lose_or_find_metadata(self) -> None:
        self.ward.directory.is_away = not self.ward.directory.is_away

    @rule(number=st.integers(0, RUN_COUNT - 1), is_resumed=st.booleans())
    def end(self, number: int, is_resumed: bool) -> None:
        run = self.runs[number]
        self.run(self.ward.desk.finish(run, exit_code=0))
        if is_resumed:
            self.runs[number] = self.run(self.ward.desk.start(run.run.run_id))
            self.heard_s[number] = self.reached_s[number] = self.ward.clock.elapsed_s

    @rule()
    def all_falls_silent(self) -> None:
        """Once faults end, each run that is silent is crashed within the timeout, a refresh and a sweep."""
        self.ward.directory.is_away = False
        config = self.ward.config
        settle_s = 1.5 * config.beat_interval_max_s
        sweeps_s = 2 * config.sweep_interval_s
        wait_s = TIMEOUT_S + settle_s + config.lease_s + config.refresh_interval_s + sweeps_s
        self.run(self.ward.pass_time(wait_s))
        assert not LIVE_STATES & set(self.run(self.ward.states(self.runs)))

    @invariant()
    def nobody_who_beat_is_crashed(self) -> None:
        """A new verdict is on a run that was silent for the timeout while the monitor could hear; one at a time."""
        for number, run in enumerate(self.runs):
            count = self.run(self.ward.crash_count(run))
            if count > self.crashes[number]:
                assert count == self.crashes[number] + 1
                silent_since_s = max(self.heard_s[number], self.hearing_since_s)
                assert self.ward.clock.elapsed_s - silent_since_s > TIMEOUT_S
            self.crashes[number] = count

    @invariant()
    def the_last_word_is_a_beat(self) -> None:
        """A run that is crashed has been silent since: a beat while metadata could answer brought it back."""
        for number, run in enumerate(self.runs):
            if self.run(self.ward.desk.read(run)).state is RunState.CRASHED:
                assert self.ward.clock.elapsed_s - self.reached_s[number] > TIMEOUT_S


MonitorMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestMonitorMachine = MonitorMachine.TestCase


def live_run(number: int, *, attempt: int = 1, timeout_s: float | None = None) -> LiveRun:
    return LiveRun(RunKey(number), f"e/p/{number}", RunState.RUNNING, attempt, timeout_s)


def learn(table: LivenessTable, run: LiveRun, now_s: float) -> None:
    table.learn(run, now_s=now_s, now_unix_ns=round(now_s * 1e9))


def beat(table: LivenessTable, now_s: float, *beats: Beat) -> None:
    heard = table.note_beats(beats, agent_id="a", now_s=now_s, now_unix_ns=round(now_s * 1e9))
    assert heard.strange == []


def due(table: LivenessTable, now_s: float) -> list[RunKey]:
    return [verdict.run.run_key for verdict in table.sweep(now_s=now_s).verdicts]


@given(st.lists(st.tuples(st.floats(0.0, 4.0), st.booleans()), max_size=80))
def test_silence_is_measured_exactly(steps: list[tuple[float, bool]]) -> None:
    """A run is due exactly when the time since its last sign of life is above the timeout."""
    table = LivenessTable(RULES)
    now_s = alive_s = 100.0
    learn(table, live_run(1), now_s)
    for pause_s, is_beat in steps:
        now_s += pause_s
        if is_beat:
            beat(table, now_s, Beat(RunKey(1), 1))
            alive_s = now_s
        assert (now_s > alive_s + TIMEOUT_S) == bool(due(table, now_s))


def test_a_run_may_have_its_own_timeout() -> None:
    """A timeout of the run's own beats the default."""
    table = LivenessTable(RULES)
    learn(table, live_run(1, timeout_s=2.0), 0.0)
    learn(table, live_run(2), 0.0)
    assert due(table, 3.0) == [1]


def test_a_timeout_that_shrinks_waits_for_the_next_beat() -> None:
    """When a project's timeout is made shorter than the pause that agents were told, they get that pause once more."""
    table = LivenessTable(RULES)
    learn(table, live_run(1), 0.0)
    beat(table, 20.0, Beat(RunKey(1), 1))
    learn(table, live_run(1, timeout_s=10.0), 29.0)
    assert due(table, 39.0) == []
    beat(table, 39.0, Beat(RunKey(1), 1))
    assert due(table, 49.0) == []
    assert due(table, 49.5) == [1]


def test_a_verdict_comes_up_until_it_is_settled() -> None:
    """A run that is due is returned by each sweep, until a beat withdraws it or it is forgotten."""
    table = LivenessTable(RULES)
    learn(table, live_run(1), 0.0)
    assert [due(table, 61.0), due(table, 62.0)] == [[1], [1]]
    beat(table, 62.5, Beat(RunKey(1), 1))
    assert due(table, 63.0) == []
    assert due(table, 123.0) == [1]
    table.forget(RunKey(1))
    assert due(table, 124.0) == []


def test_a_run_whose_settings_are_not_known_gets_no_verdict() -> None:
    """What a lookup brings in waits for the list of live runs, which has the timeout of its project."""
    table = LivenessTable(RULES)
    table.learn(live_run(1), now_s=0.0, now_unix_ns=0, is_provisional=True)
    assert due(table, 1000.0) == []
    learn(table, live_run(1, timeout_s=5000.0), 1000.0)
    assert due(table, 4999.0) == []
    assert due(table, 5001.0) == [1]


def test_a_late_copy_of_a_beat_takes_nothing_back() -> None:
    """Beats that come late, twice or in another order: counts and steps only grow, an old beat does not end silence."""
    table = LivenessTable(RULES)
    learn(table, live_run(1), 0.0)
    beat(table, 10.0, Beat(RunKey(1), 1, last_step=9, records_written=90, records_durable=80))
    beat(table, 20.0, Beat(RunKey(1), 1, last_step=4, records_written=40, records_durable=30))
    beat(table, 50.0, Beat(RunKey(1), 1, age_s=45.0))
    found = table.find("e/p/1", now_s=50.0)
    assert found is not None
    assert (found.last_step, found.records_written, found.records_durable) == (9, 90, 80)
    assert found.last_beat_unix_ns == 20_000_000_000
    assert due(table, 80.5) == [1]


def test_an_answer_cannot_speak_of_what_came_after_the_question() -> None:
    """A run learned after the list of live runs was asked for stays, though the list has it not."""
    table = LivenessTable(RULES)
    learn(table, live_run(1), 1.0)
    asked = table.begin_refresh()
    learn(table, live_run(2), 3.0)
    table.retain(lambda run_key: False, before_generation=asked)
    assert (RunKey(1) in table, RunKey(2) in table) == (False, True)
    assert table.find("e/p/1", now_s=4.0) is None


def test_an_older_attempt_does_not_come_back() -> None:
    """A list that was read before a resume does not take the attempt back."""
    table = LivenessTable(RULES)
    learn(table, live_run(1, attempt=2), 0.0)
    learn(table, live_run(1, attempt=1), 1.0)
    [verdict] = table.sweep(now_s=61.0).verdicts
    assert verdict.run.attempt_count == 2
