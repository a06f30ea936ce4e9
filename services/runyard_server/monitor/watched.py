"""One live run as the monitor sees it: its writers, when each was last heard, and what can be said of them. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from runyard_server.domain.beats import Liveness, RunWriters, WriterLiveness
from runyard_server.domain.run import LiveRun
from runyard_server.monitor.wheel import OUT

PACE_SPAN_S: Final = 10.0
"""Over what time at least the pace of a run with several writers is taken."""


@dataclass(frozen=True, slots=True)
class LivenessRules:
    """What silence, standstill and lagging mean for runs without settings of their own."""

    crash_timeout_s: float
    """Silence after which a run counts as crashed."""
    stall_timeout_s: float = 600.0
    """Time without a new step after which a run that beats is flagged as stalled. 0: never."""
    straggler_steps: int = 100
    """Steps behind the median that make a straggler, unless the run makes more within two beats."""
    beat_interval_max_s: float = 10.0
    """Longest pause between two beats that agents are told."""


class WatchedWriter:
    """A writer, as its last beat told."""

    __slots__ = (
        "agent_id", "durable", "heard_s", "heard_unix_ns", "is_lost", "is_process_alive", "number", "step", "written",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.heard_s = -math.inf
        self.heard_unix_ns = 0
        self.agent_id = ""
        self.is_process_alive = True
        self.step: int | None = None
        self.written = 0
        self.durable = 0
        self.is_lost = False


class WatchedRun:
    """A run, its writers, and its place in the wheel."""

    __slots__ = (
        "alive_s", "data_s", "generation", "is_provisional", "last", "learned_s", "learned_unix_ns", "pace", "pace_s", "pace_step",
        "progress_s", "progress_unix_ns", "run", "slot", "stall_timeout_s", "stalled_since_unix_ns", "step", "timeout_s",
        "writers",
    )  # fmt: skip

    def __init__(self, run: LiveRun, *, generation: int, now_s: float, now_unix_ns: int) -> None:
        self.run = run
        self.generation = generation
        self.slot = OUT
        self.learned_s = now_s
        self.learned_unix_ns = now_unix_ns
        self.alive_s = now_s
        self.data_s: float | None = None
        self.progress_s = now_s
        self.progress_unix_ns: int | None = None
        self.step: int | None = None
        self.stalled_since_unix_ns = run.stalled_since_unix_ns
        self.is_provisional = False
        """True while its settings are not known: no verdict then."""
        self.timeout_s = math.inf
        self.stall_timeout_s = math.inf
        self.writers: dict[int, WatchedWriter] = {}
        self.last: WatchedWriter | None = None
        """The writer that was heard last."""
        self.pace_s, self.pace_step, self.pace = now_s, 0, 0.0

    def take_settings(self, rules: LivenessRules) -> None:
        """Makes the limits in force out of the run's own and the default ones."""
        own_s, own_stall_s = self.run.crash_timeout_s, self.run.stall_timeout_s
        self.timeout_s = rules.crash_timeout_s if own_s is None else own_s
        stall_s = rules.stall_timeout_s if own_stall_s is None else own_stall_s
        self.stall_timeout_s = stall_s or math.inf

    def step_back(self, now_s: float) -> None:
        """Moves what lies after `now_s` to it: the clock has gone back."""
        self.alive_s = min(self.alive_s, now_s)
        self.learned_s = min(self.learned_s, now_s)
        self.progress_s = min(self.progress_s, now_s)
        self.pace_s = min(self.pace_s, now_s)
        if self.data_s is not None:
            self.data_s = min(self.data_s, now_s)
        for writer in self.writers.values():
            writer.heard_s = min(writer.heard_s, now_s)

    def note_pace(self, now_s: float) -> None:
        """Notes how fast steps come; called at a new highest step."""
        assert self.step is not None
        span_s = now_s - self.pace_s
        if span_s >= PACE_SPAN_S:
            self.pace = max(self.step - self.pace_step, 0) / span_s
            self.pace_s, self.pace_step = now_s, self.step

    def is_silent(self, writer: WatchedWriter, now_s: float) -> bool:
        """Returns whether the writer has been silent for longer than the timeout."""
        return now_s > max(writer.heard_s, self.learned_s) + self.timeout_s

    def liveness(self, now_s: float, rules: LivenessRules) -> Liveness:
        """Returns what is known of the run."""
        writers = self.writers.values()
        silent = sum(self.is_silent(writer, now_s) for writer in writers)
        straggling = self.standing(now_s, rules) if len(writers) > 1 else None
        return Liveness(
            run_path=self.run.path,
            crash_timeout_s=self.timeout_s,
            last_beat_unix_ns=self.last.heard_unix_ns if self.last else None,
            records_written=sum(writer.written for writer in writers),
            records_durable=sum(writer.durable for writer in writers),
            last_step=self.step,
            progress_unix_ns=self.progress_unix_ns,
            stalled_since_unix_ns=self.stalled_since_unix_ns,
            writers_beating=len(writers) - silent,
            writers_silent=silent,
            straggler_count=sum(w.is_straggler for w in straggling.writers) if straggling else 0,
        )

    def standing(self, now_s: float, rules: LivenessRules) -> RunWriters:
        """Returns the writers beside each other, those that lag marked.

        Beats come at different moments, so the steps that they tell differ by what a run makes in between: by default the
        margin is at least the steps of two beats.
        """
        margin = self.run.straggler_steps or max(
            rules.straggler_steps, math.ceil(2 * self.pace * rules.beat_interval_max_s)
        )
        steps = sorted(w.step for w in self.writers.values() if w.step is not None)
        # The upper one of two in the middle: a step that a writer has reached.
        median = steps[len(steps) // 2] if steps else None
        return RunWriters(
            writers=tuple(
                WriterLiveness(
                    writer=writer.number,
                    last_beat_unix_ns=writer.heard_unix_ns,
                    last_step=writer.step,
                    records_written=writer.written,
                    records_durable=writer.durable,
                    is_straggler=median is not None
                    and writer.step is not None
                    and median - writer.step >= margin,
                    is_silent=self.is_silent(writer, now_s),
                    is_process_alive=writer.is_process_alive,
                    agent_id=writer.agent_id,
                )
                for _, writer in sorted(self.writers.items())
            ),
            median_step=median,
            straggler_steps=margin,
        )

    def crash_evidence(self, now_s: float) -> str:
        """Returns in words what shows that the run is dead."""
        silence_s = now_s - self.alive_s
        limit = f"the timeout is {self.timeout_s:g} s"
        last = self.last
        if last is None:
            return f"no heartbeat in the {silence_s:.1f} s since the monitor learned of this attempt; {limit}"
        count = len(self.writers)
        if count == 1:
            who = f"no heartbeat for {silence_s:.1f} s from agent {last.agent_id}"
        else:
            who = (
                f"no signal from any of {count} writers for {silence_s:.1f} s; the last was writer {last.number} of "
                f"agent {last.agent_id}"
            )
        seen = "alive" if last.is_process_alive else "gone"
        return f"{who}, which had seen the process {seen}; {self._data_text(now_s)}; {limit}"

    def loss_evidence(self, writer: WatchedWriter, lost_count: int, now_s: float) -> str:
        """Returns in words what shows that a writer is lost while others beat."""
        silence_s = now_s - writer.heard_s
        seen = "alive" if writer.is_process_alive else "gone"
        return (
            f"no signal from {lost_count} of {len(self.writers)} writers for {self.timeout_s:g} s; writer {writer.number} "
            f"is silent for {silence_s:.0f} s, its agent {writer.agent_id} had seen the process {seen} at "
            f"{_step_text(writer.step)}"
        )

    def stall_evidence(self, now_s: float) -> str:
        """Returns in words what shows that the run stands still."""
        assert self.last is not None
        since = "the monitor learned of it" if self.progress_unix_ns is None else "the last one"
        return (
            f"agent {self.last.agent_id} beats, but no new step came in the {now_s - self.progress_s:.0f} s since {since}, at "
            f"{_step_text(self.step)}; {self._data_text(now_s)}"
        )

    def _data_text(self, now_s: float) -> str:
        written = sum(writer.written for writer in self.writers.values())
        durable = sum(writer.durable for writer in self.writers.values())
        counts = f"{written:,} records written, {durable:,} durable, {_step_text(self.step)}"
        if self.data_s is None:
            return counts
        return f"last new record {now_s - self.data_s:.0f} s ago ({counts})"


def _step_text(step: int | None) -> str:
    return "no step yet" if step is None else f"step {step:,}"
