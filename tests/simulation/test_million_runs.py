"""A million live runs on one replica: beats late, lost and out of order, agents and the monitor restarted, clocks askew.

The driver keeps in NumPy when each run was heard last; at every sweep the verdicts must be exactly the runs whose silence is
over the timeout: no living one, every dead one, each once.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runyard_server.domain.beats import Beat
from runyard_server.domain.run import LiveRun, RunKey, RunState
from runyard_server.monitor.liveness import LivenessTable
from runyard_server.monitor.watched import LivenessRules

RUNS = int(os.environ.get("RUNYARD_SIM_RUNS") or 1_000_000)
SEED = int(os.environ.get("RUNYARD_SIM_SEED") or 1)
TIMEOUT_S = 30.0
INTERVAL_S = 10.0
ROUNDS = 9
RESTART_ROUND = 4
MESSAGE_BEATS = 5_000
BYTES_PER_RUN_MAX = 1_300
LOST, BOUNCED, DEAD = 0.1, 0.01, 0.004
"""Of the beats, of the agents in each round (silent for three), of the runs in each round (for good)."""
FIRST_KEY = 7_507_804_160_000_000_000


class Million:
    """The table, the beats that agents would send, and what is true."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(SEED)
        self.beats = [
            Beat(RunKey(FIRST_KEY + number), 1, True, 5, 50, 40) for number in range(RUNS)
        ]
        self.now_s = 1000.0
        self.is_dead = np.zeros(RUNS, dtype=bool)
        self.silent_until_s = np.zeros(RUNS)
        self.is_crashed = np.zeros(RUNS, dtype=bool)
        self.crash_count = np.zeros(RUNS, dtype=np.int64)

    def start_monitor(self) -> None:
        """Starts a table that remembers nothing, and has metadata tell it of all live runs."""
        self.table = LivenessTable(LivenessRules(crash_timeout_s=TIMEOUT_S))
        self.alive_s = np.full(RUNS, self.now_s)
        for number in np.nonzero(~self.is_crashed)[0].tolist():
            self.learn(number)

    def learn(self, number: int) -> None:
        key = FIRST_KEY + number
        run = LiveRun(RunKey(key), f"e/p/{key}", RunState.RUNNING, 1)
        self.table.learn(run, now_s=self.now_s, now_unix_ns=0)

    def play_round(self) -> None:
        """Lets the beats of one interval arrive, late by up to it, a message at a time, with a sweep each second."""
        fate = self.random.random(RUNS)
        self.is_dead |= fate < DEAD
        bounced = fate > 1 - BOUNCED
        self.silent_until_s[bounced] = self.now_s + 3 * INTERVAL_S
        is_sent = ~self.is_dead & (self.silent_until_s <= self.now_s)
        is_sent &= self.random.random(RUNS) >= LOST
        arriving = np.nonzero(is_sent)[0]
        began_s, swept_s = self.now_s, self.now_s
        # An agent's message arrives whole; which one comes first, chance says anew in each round.
        messages = list(self.messages(arriving))
        self.random.shuffle(messages)
        for place, message in enumerate(messages):
            self.now_s = began_s + INTERVAL_S * (place + 1) / (len(messages) + 1)
            if self.now_s >= swept_s + 1.0:
                swept_s = self.now_s
                self.sweep()
            self.arrive(message)
        self.now_s = began_s + INTERVAL_S
        self.sweep()

    def messages(self, numbers: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        for first in range(0, len(numbers), MESSAGE_BEATS):
            yield numbers[first : first + MESSAGE_BEATS]

    def arrive(self, numbers: npt.NDArray[np.int64]) -> None:
        # The wall clock jumps with each message; it has no say.
        unix_ns = int(self.random.integers(0, 1 << 60))
        heard = self.table.note_beats(
            [self.beats[number] for number in numbers.tolist()],
            agent_id="agent",
            now_s=self.now_s,
            now_unix_ns=unix_ns,
        )
        self.alive_s[numbers] = self.now_s
        returned = [beat.run_key - FIRST_KEY for beat in heard.strange]
        assert set(returned) == set(numbers[self.is_crashed[numbers]].tolist())
        self.is_crashed[returned] = False
        for number in returned:
            self.learn(number)

    def sweep(self) -> None:
        """Asks I6: the verdicts are the truth."""
        found = self.table.sweep(now_s=self.now_s)
        named = np.array([v.run.run_key - FIRST_KEY for v in found.verdicts], dtype=np.int64)
        named.sort()
        is_due = ~self.is_crashed & (self.now_s > self.alive_s + TIMEOUT_S)
        assert np.array_equal(np.nonzero(is_due)[0], named), f"I6 at {self.now_s} s, seed {SEED}"
        self.crash_count[named] += 1
        self.is_crashed[named] = True
        for number in named.tolist():
            self.table.forget(RunKey(FIRST_KEY + number))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing here is garbage; millions of objects would be looked through for it again and again."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_million_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """I6 for each of a million runs at every sweep, over a minute and a half of their time; memory a run under its limit."""
    world = Million()
    before_bytes = resident_bytes()
    world.start_monitor()
    world.arrive(np.arange(RUNS))
    per_run = (resident_bytes() - before_bytes) / RUNS
    for number in range(ROUNDS):
        if number == RESTART_ROUND:
            world.start_monitor()
        world.play_round()
    dead_long = world.is_dead & (world.now_s > world.alive_s + TIMEOUT_S + 1.0)
    assert dead_long.sum() > RUNS * DEAD
    assert world.is_crashed[dead_long].all()
    with capsys.disabled():
        print(
            f"\n{RUNS:,} runs, seed {SEED}: {int(world.crash_count.sum()):,} verdicts, {int(world.is_dead.sum()):,} died; "
            f"about {per_run:.0f} bytes a run"
        )
    if RUNS >= 100_000:
        assert per_run < BYTES_PER_RUN_MAX


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
