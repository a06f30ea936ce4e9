"""What the table sees of a live run besides its silence: standing still, ranks that lag, ranks that fall silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard_server.domain.beats import Beat
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.run import LiveRun, RunKey, RunState
from runyard_server.monitor.liveness import LivenessTable, Notice
from runyard_server.monitor.watched import LivenessRules

KEY = RunKey(1)
RUN = LiveRun(KEY, "e/p/r", RunState.RUNNING, 1)
RULES = LivenessRules(crash_timeout_s=60.0, stall_timeout_s=600.0)


class Watch:
    """A table with one run, and a clock."""

    def __init__(self, run: LiveRun = RUN) -> None:
        self.table = LivenessTable(RULES)
        self.now_s = 1000.0
        self.table.learn(run, now_s=self.now_s, now_unix_ns=self.unix_ns)

    @property
    def unix_ns(self) -> int:
        return round(self.now_s * 1e9)

    def beat(self, *beats: Beat) -> None:
        self.table.note_beats(beats, agent_id="agent-1", now_s=self.now_s, now_unix_ns=self.unix_ns)

    def pass_time(self, seconds: float, *beats: Beat) -> list[Notice]:
        """Lets time pass with the beats each 10 s; all that is silent has not ended. Returns what was seen."""
        seen = []
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 1.0
            if self.now_s % 10 == 0:
                self.beat(*beats)
            found = self.table.sweep(now_s=self.now_s)
            for suspects in found.suspects:
                self.table.settle_suspects(suspects, ended_writers=set(), now_s=self.now_s)
            seen.extend(self.table.take_notices())
        return seen

    def stalled_since(self) -> int | None:
        found = self.table.find(RUN.path, now_s=self.now_s)
        assert found is not None
        return found.stalled_since_unix_ns


def test_a_run_without_new_steps_is_flagged_once() -> None:
    """A run that beats without a new step for the stall timeout is flagged, with the time of its last step as since-when."""
    watch = Watch()
    watch.pass_time(40, Beat(KEY, 1, last_step=7))
    since = watch.table.find(RUN.path, now_s=watch.now_s)
    assert since is not None
    assert watch.pass_time(560, Beat(KEY, 1, last_step=7)) == []
    [notice] = watch.pass_time(1000, Beat(KEY, 1, last_step=7))
    assert (RunEventKind.STALLED, since.progress_unix_ns) == (notice.kind, notice.since_unix_ns)
    assert notice.evidence.startswith("agent agent-1 beats, but no new step came in the 6")
    assert "at step 7" in notice.evidence
    assert watch.stalled_since() == since.progress_unix_ns


def test_a_run_that_never_stepped_counts_from_its_start() -> None:
    """Before the first step the stall timeout runs from when the monitor learned of the attempt."""
    watch = Watch()
    start = watch.unix_ns
    [notice] = watch.pass_time(620, Beat(KEY, 1))
    assert (RunEventKind.STALLED, start) == (notice.kind, notice.since_unix_ns)


def test_a_new_step_takes_the_flag_away() -> None:
    """Progress is told once; then the run may stall again."""
    watch = Watch()
    watch.pass_time(700, Beat(KEY, 1, last_step=7))
    [notice] = watch.pass_time(500, Beat(KEY, 1, last_step=8))
    assert (notice.kind, watch.stalled_since()) == (RunEventKind.PROGRESSED, None)
    assert [one.kind for one in watch.pass_time(300, Beat(KEY, 1, last_step=8))] == [
        RunEventKind.STALLED
    ]


def test_zero_means_never() -> None:
    """A stall timeout of 0 flags nothing; one of the run's own beats the default."""
    watch = Watch(replace(RUN, stall_timeout_s=0.0))
    assert watch.pass_time(5000, Beat(KEY, 1)) == []
    watch = Watch(replace(RUN, stall_timeout_s=50.0))
    assert len(watch.pass_time(80, Beat(KEY, 1))) == 1


def test_a_silent_run_is_not_flagged() -> None:
    """What does not beat is on its way to a crash; nothing is known of its steps."""
    watch = Watch(replace(RUN, stall_timeout_s=30.0))
    watch.beat(Beat(KEY, 1, last_step=1))
    assert watch.pass_time(100) == []
    assert watch.stalled_since() is None


def test_a_restarted_monitor_keeps_the_flag() -> None:
    """A run that metadata has as stalled stays so: its first step heard of is no news, the next one is."""
    watch = Watch(replace(RUN, stalled_since_unix_ns=5))
    assert watch.pass_time(100, Beat(KEY, 1, last_step=7)) == []
    assert watch.stalled_since() == 5
    assert len(watch.pass_time(20, Beat(KEY, 1, last_step=8))) == 1


def test_a_rewound_attempt_makes_progress_below_the_highest_step() -> None:
    """A writer's steps are measured by its own: after a rewind they are new though lower than the run's highest."""
    watch = Watch(replace(RUN, stall_timeout_s=50.0))
    watch.pass_time(20, Beat(KEY, 1, last_step=1000))
    watch.table.learn(
        replace(RUN, attempt_count=2, stall_timeout_s=50.0),
        now_s=watch.now_s,
        now_unix_ns=watch.unix_ns,
    )
    for step in range(40):
        seen = watch.pass_time(10, Beat(KEY, 2, last_step=step))
        assert all(notice.kind is RunEventKind.WRITER_LOST for notice in seen)


def test_one_of_many_writers_is_lost_and_returns() -> None:
    """A writer silent for the crash timeout while others beat is told of, in numbers; so is its return. The run lives."""
    watch = Watch()
    every = [Beat(KEY, number, last_step=number) for number in (1, 2, 3)]
    watch.pass_time(30, *every)
    [notice] = watch.pass_time(100, *every[:2])
    assert (notice.kind, notice.writer) == (RunEventKind.WRITER_LOST, 3)
    assert notice.evidence == (
        "no signal from 1 of 3 writers for 60 s; writer 3 is silent for 61 s, its agent agent-1 had seen the process alive "
        "at step 3"
    )
    found = watch.table.find(RUN.path, now_s=watch.now_s)
    assert found is not None
    assert (found.writers_beating, found.writers_silent) == (2, 1)
    [notice] = watch.pass_time(30, *every)
    assert (notice.kind, notice.writer) == (RunEventKind.WRITER_RETURNED, 3)


def test_writers_that_fall_silent_together_are_a_crash() -> None:
    """When all go within a beat of each other no single one is called lost: the run is silent."""
    watch = Watch()
    watch.pass_time(30, *(Beat(KEY, number) for number in (1, 2, 3)))
    watch.now_s += 9.0
    watch.beat(Beat(KEY, 1))
    assert watch.pass_time(59) == []
    assert watch.pass_time(3) == []
    [verdict] = watch.table.sweep(now_s=watch.now_s).verdicts
    assert verdict.evidence.startswith(
        "no signal from any of 3 writers for 62.0 s; the last was writer 1 of agent agent-1, which had seen the process alive"
    )


def test_a_writer_that_ended_is_not_lost() -> None:
    """A silent writer that metadata says has ended is forgotten, without a word."""
    watch = Watch()
    watch.pass_time(30, Beat(KEY, 1), Beat(KEY, 2))
    suspected = []
    for _ in range(100):
        watch.now_s += 1.0
        watch.beat(Beat(KEY, 1))
        for suspects in watch.table.sweep(now_s=watch.now_s).suspects:
            suspected.append(suspects.writers)
            watch.table.settle_suspects(suspects, ended_writers={2}, now_s=watch.now_s)
    assert (suspected, watch.table.take_notices()) == ([(2,)], [])
    found = watch.table.find_writers(RUN.path, now_s=watch.now_s)
    assert found is not None
    assert [writer.writer for writer in found.writers] == [1]


@pytest.mark.parametrize(("margin", "stragglers"), [(0, [3]), (300, []), (50, [2, 3])])
def test_writers_behind_the_median_are_stragglers(margin: int, stragglers: list[int]) -> None:
    """A writer that lags behind the median by the margin or more is marked and counted."""
    watch = Watch(replace(RUN, straggler_steps=margin))
    for number, step in ((1, 1000), (2, 940), (3, 800), (4, 1001), (5, 1002)):
        watch.beat(Beat(KEY, number, last_step=step))
    found = watch.table.find_writers(RUN.path, now_s=watch.now_s)
    liveness = watch.table.find(RUN.path, now_s=watch.now_s)
    assert found is not None and liveness is not None
    assert (found.median_step, found.straggler_steps) == (1000, margin or 100)
    assert [writer.writer for writer in found.writers if writer.is_straggler] == stragglers
    assert liveness.straggler_count == len(stragglers)


def test_the_phase_of_beats_makes_no_straggler() -> None:
    """Ranks in lockstep at 100 steps a second, whose agents beat at different moments, lag by no margin of theirs."""
    watch = Watch()
    started_s = watch.now_s
    for second in range(120):
        watch.now_s = started_s + second
        step = second * 100
        watch.beat(*(Beat(KEY, n, last_step=step) for n in range(1, 11) if n % 10 == second % 10))
    found = watch.table.find_writers(RUN.path, now_s=watch.now_s)
    assert found is not None
    assert found.straggler_steps == 2000
    assert not any(writer.is_straggler for writer in found.writers)


def test_a_flag_that_came_late_goes_with_the_next_step() -> None:
    """A late copy of a call set the flag at metadata after progress was told: the next list of live runs tells of it."""
    watch = Watch()
    watch.pass_time(40, Beat(KEY, 1, last_step=7))
    watch.table.learn(
        replace(RUN, stalled_since_unix_ns=5), now_s=watch.now_s, now_unix_ns=watch.unix_ns
    )
    assert watch.stalled_since() == 5
    [notice] = watch.pass_time(20, Beat(KEY, 1, last_step=8))
    assert (notice.kind, watch.stalled_since()) == (RunEventKind.PROGRESSED, None)


def test_a_flag_that_metadata_lost_is_set_again() -> None:
    """A late copy of a call took the flag of a run that stands still: the next list of live runs tells of it."""
    watch = Watch()
    assert len(watch.pass_time(700, Beat(KEY, 1, last_step=7))) == 1
    since = watch.stalled_since()
    watch.table.learn(RUN, now_s=watch.now_s, now_unix_ns=watch.unix_ns)
    [notice] = watch.pass_time(30, Beat(KEY, 1, last_step=7))
    assert (notice.kind, notice.since_unix_ns) == (RunEventKind.STALLED, since)
