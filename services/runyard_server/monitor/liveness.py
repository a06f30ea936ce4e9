"""Who is alive: beats and one clock in, verdicts out; pure, it reads no clock and calls nobody.

```
   learn (start, resume, lookup)        beat                    silence > timeout
 unknown ───────────────────────► live ──────► live (later) ──────────────────────► due ──► Verdict, until settled
                                   ▲                                                 │
                                   └──────────────────── beat ───────────────────────┘
```

Only silence counts, measured on the monitor's own clock: nothing that another machine's clock says enters a verdict. What the
monitor could not hear counts as no silence: its own start, and every stall of its own, begins a full timeout for all runs
(`excuse_all`); so does taking a run over from another replica, for it is learned anew then.

A run is looked at when its deadline may have come (see wheel.py), not at each sweep; a beat costs a few stores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from runyard_server.domain.beats import Beat, Liveness, RunWriters
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.run import LiveRun, RunKey, RunState
from runyard_server.monitor.watched import LivenessRules, WatchedRun, WatchedWriter
from runyard_server.monitor.wheel import Wheel

WHEEL_WIDTH_S = 1.0
RECHECK_S = 5.0
"""When to ask again about writers whose fate nobody could tell."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run that has been silent for too long, and what shows it."""

    run: LiveRun
    silence_s: float
    evidence: str
    last_beat_unix_ns: int | None
    """Server time of the last beat; None if there was none since the monitor learned of the run."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """Writers that fell silent while others of their run beat: lost, unless they have ended."""

    run: LiveRun
    writers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was seen of a live run, to be recorded as an event."""

    run: LiveRun
    kind: RunEventKind
    evidence: str
    writer: int = 0
    since_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of beats."""

    strange: list[Beat]
    """Those of runs that are not known here."""
    timeout_min_s: float
    """The shortest timeout of the others' runs."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a look at the table found."""

    verdicts: list[Verdict]
    suspects: list[Suspects]


class LivenessTable:
    """Remembers the live runs and when each last gave a sign of life.

    Times are of one clock; `step_back` tells when it has gone back.
    """

    def __init__(self, rules: LivenessRules) -> None:
        self._rules = rules
        self._runs: dict[RunKey, WatchedRun] = {}
        self._keys_by_path: dict[str, RunKey] = {}
        self._wheel: Wheel[WatchedRun] = Wheel(width_s=WHEEL_WIDTH_S)
        self._due: dict[RunKey, WatchedRun] = {}
        self._notices: list[Notice] = []
        self._generation = 0
        # Nothing before this moment counts as silence.
        self._hearing_since_s = float("-inf")

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run_key: object) -> bool:
        return run_key in self._runs

    @property
    def run_keys(self) -> Collection[RunKey]:
        """The runs that are watched."""
        return self._runs.keys()

    def learn(
        self, run: LiveRun, *, now_s: float, now_unix_ns: int, is_provisional: bool = False
    ) -> None:
        """Takes in a run that metadata says is live; a new one, and a new attempt, is a sign of life.

        A provisional one, whose settings are not known yet, gets no verdict until it is learned in full.
        """
        watched = self._runs.get(run.run_key)
        if watched is None:
            watched = WatchedRun(
                run, generation=self._generation, now_s=now_s, now_unix_ns=now_unix_ns
            )
            watched.is_provisional = is_provisional
            watched.take_settings(self._rules)
            self._runs[run.run_key] = watched
            self._keys_by_path[run.path] = run.run_key
            self._schedule(watched, now_s)
            return
        if is_provisional or run.attempt_count < watched.run.attempt_count:
            return
        is_new_attempt = run.attempt_count > watched.run.attempt_count
        watched.is_provisional = False
        before, timeout_s = watched.run, watched.timeout_s
        watched.run = run
        if is_new_attempt:
            watched.alive_s = max(watched.alive_s, now_s)
            watched.progress_s, watched.progress_unix_ns = now_s, None
            watched.learned_unix_ns = now_unix_ns
            watched.stalled_since_unix_ns = run.stalled_since_unix_ns
        elif (watched.stalled_since_unix_ns is None) != (run.stalled_since_unix_ns is None):
            # A late copy of a call, or another replica, changed the flag: metadata's word counts, and the next step, or
            # the next look at a run without one, corrects it.
            watched.stalled_since_unix_ns = run.stalled_since_unix_ns
            self._schedule(watched, now_s)
        if before != run:
            watched.take_settings(self._rules)
            if watched.timeout_s < timeout_s:
                # Agents beat at the pace of the longer timeout until they are told otherwise.
                told_s = now_s + self._rules.beat_interval_max_s
                watched.alive_s = max(watched.alive_s, told_s)
            self._schedule(watched, now_s)

    def begin_refresh(self) -> int:
        """Returns the generation of the runs that are learned from now on; called before metadata is asked for all."""
        self._generation += 1
        return self._generation

    def retain(self, is_kept: Callable[[RunKey], bool], *, before_generation: int) -> None:
        """Forgets the runs of earlier generations that are not to be kept.

        What was learned after metadata was asked for all live runs stays: the answer cannot speak of it.
        """
        gone = [
            run_key
            for run_key, watched in self._runs.items()
            if watched.generation < before_generation and not is_kept(run_key)
        ]
        for run_key in gone:
            self.forget(run_key)

    def note_beats(
        self, beats: Sequence[Beat], *, agent_id: str, now_s: float, now_unix_ns: int
    ) -> Heard:
        """Takes in beats of runs that are known here; repeats, and any order, do no harm."""
        strange: list[Beat] = []
        timeout_min_s = self._rules.crash_timeout_s
        runs = self._runs
        for beat in beats:
            run_key, number, is_alive, step, written, durable, age_s, own_agent_id = beat
            watched = runs.get(run_key)
            if watched is None:
                strange.append(beat)
                continue
            writer = watched.writers.get(number)
            if writer is None:
                writer = watched.writers[number] = WatchedWriter(number)
            heard_s = now_s - age_s if age_s else now_s
            if heard_s >= writer.heard_s:
                writer.heard_s = heard_s
                writer.heard_unix_ns = now_unix_ns - round(age_s * 1e9) if age_s else now_unix_ns
                writer.is_process_alive = is_alive
                writer.agent_id = own_agent_id or agent_id
            if heard_s >= watched.alive_s:
                watched.alive_s = heard_s
                watched.last = writer
            elif watched.last is None:
                watched.last = writer
            if written > writer.written:
                writer.written = written
                watched.data_s = heard_s
            if durable > writer.durable:
                writer.durable = durable
            if step is not None and (writer.step is None or step > writer.step):
                self._take_step(watched, writer, step, heard_s, now_unix_ns)
            if writer.is_lost:
                self._take_back(watched, writer)
            if watched.timeout_s < timeout_min_s:
                timeout_min_s = watched.timeout_s
        return Heard(strange, timeout_min_s)

    def beats_since(self, since_s: float) -> list[tuple[RunKey, int]]:
        """Returns (run, server time of its last beat) of runs whose last beat is not before `since_s`."""
        return [
            (run_key, watched.last.heard_unix_ns)
            for run_key, watched in self._runs.items()
            if watched.last is not None and watched.last.heard_s >= since_s
        ]

    def forget(self, run_key: RunKey) -> None:
        """Forgets a run that is live no longer, or whose verdict is recorded, or that is another replica's now."""
        watched = self._runs.pop(run_key, None)
        if watched is not None:
            self._keys_by_path.pop(watched.run.path, None)
            self._due.pop(run_key, None)
            self._wheel.take_out(watched)

    def give_up(self, run_key: RunKey) -> list[Beat]:
        """Forgets a run that is another replica's now; returns the last beat of each writer, its time as `age_s`."""
        watched = self._runs.get(run_key)
        if watched is None:
            return []
        self.forget(run_key)
        return [
            Beat(
                run_key=run_key,
                writer=writer.number,
                is_process_alive=writer.is_process_alive,
                last_step=writer.step,
                records_written=writer.written,
                records_durable=writer.durable,
                age_s=writer.heard_s,
                agent_id=writer.agent_id,
            )
            for writer in watched.writers.values()
        ]

    def sweep(self, *, now_s: float) -> Sweep:
        """Returns a verdict for each run that is silent for longer than its timeout; again each time, until it is forgotten."""
        suspects: list[Suspects] = []
        for watched in self._wheel.due(now_s):
            self._look_at(watched, now_s, suspects)
        verdicts = []
        for run_key, watched in list(self._due.items()):
            if self._is_due(watched, now_s):
                verdicts.append(_verdict(watched, now_s))
            else:
                del self._due[run_key]
                self._schedule(watched, now_s)
        return Sweep(verdicts, suspects)

    def is_due(self, run_key: RunKey, *, now_s: float) -> bool:
        """Returns whether the verdict on the run still stands."""
        watched = self._runs.get(run_key)
        return watched is not None and self._is_due(watched, now_s)

    def settle_suspects(
        self, suspects: Suspects, *, ended_writers: Collection[int], now_s: float
    ) -> None:
        """Takes in which of the suspects have ended; the others, if they are silent still, are lost."""
        watched = self._runs.get(suspects.run.run_key)
        if watched is None:
            return
        for number in suspects.writers:
            if number in ended_writers:
                watched.writers.pop(number, None)
        lost = [
            writer
            for number in suspects.writers
            if (writer := watched.writers.get(number)) is not None
            and not writer.is_lost
            and self._is_left_behind(watched, writer, now_s)
        ]
        for writer in lost:
            writer.is_lost = True
        lost_count = sum(writer.is_lost for writer in watched.writers.values())
        for writer in lost:
            evidence = watched.loss_evidence(writer, lost_count, now_s)
            kind = RunEventKind.WRITER_LOST
            self._notices.append(Notice(watched.run, kind, evidence, writer.number))
        self._schedule(watched, now_s)

    def take_notices(self) -> list[Notice]:
        """Returns what was seen since the last time, oldest first."""
        taken, self._notices = self._notices, []
        return taken

    def find(self, path: str, *, now_s: float) -> Liveness | None:
        """Returns what is known of a live run, or None."""
        watched = self._find(path)
        return None if watched is None else watched.liveness(now_s, self._rules)

    def find_writers(self, path: str, *, now_s: float) -> RunWriters | None:
        """Returns what is known of the writers of a live run, or None."""
        watched = self._find(path)
        return None if watched is None else watched.standing(now_s, self._rules)

    def excuse_all(self, now_s: float) -> None:
        """Begins a full timeout for all runs: beats may wait unheard, in sockets or at agents that could not deliver them."""
        self._hearing_since_s = now_s

    def step_back(self, now_s: float) -> None:
        """Takes in that the clock has gone back to `now_s`: nothing lies after it, or silence would not count for long."""
        self._hearing_since_s = min(self._hearing_since_s, now_s)
        for watched in self._runs.values():
            watched.step_back(now_s)
            self._schedule(watched, now_s)

    def _find(self, path: str) -> WatchedRun | None:
        run_key = self._keys_by_path.get(path)
        return None if run_key is None else self._runs.get(run_key)

    def _look_at(self, watched: WatchedRun, now_s: float, suspects: list[Suspects]) -> None:
        if self._is_due(watched, now_s):
            self._due[watched.run.run_key] = watched
            return
        if self._is_stalled(watched):
            since_unix_ns = watched.progress_unix_ns or watched.learned_unix_ns
            watched.stalled_since_unix_ns = since_unix_ns
            evidence = watched.stall_evidence(now_s)
            self._notices.append(
                Notice(watched.run, RunEventKind.STALLED, evidence, since_unix_ns=since_unix_ns)
            )
        silent: tuple[int, ...] = ()
        if len(watched.writers) > 1:
            silent = tuple(
                writer.number
                for writer in watched.writers.values()
                if not writer.is_lost and self._is_left_behind(watched, writer, now_s)
            )
        if silent:
            suspects.append(Suspects(watched.run, silent))
            self._wheel.put(watched, min(now_s + RECHECK_S, self._deadline_s(watched)))
        else:
            self._schedule(watched, now_s)

    def _schedule(self, watched: WatchedRun, now_s: float) -> None:
        """Has the run looked at when the first of its deadlines comes."""
        at_s = self._deadline_s(watched)
        if watched.stalled_since_unix_ns is None:
            stall_s = self._since_s(watched.progress_s) + watched.stall_timeout_s
            # Past it, the next beat decides.
            at_s = min(at_s, max(stall_s, now_s + WHEEL_WIDTH_S))
        if len(watched.writers) > 1:
            heard_s = [writer.heard_s for writer in watched.writers.values() if not writer.is_lost]
            if heard_s:
                loss_s = self._since_s(min(heard_s)) + watched.timeout_s
                # Past it, whether others beat decides.
                at_s = min(at_s, max(loss_s, now_s + WHEEL_WIDTH_S))
        self._wheel.put(watched, at_s)

    def _is_due(self, watched: WatchedRun, now_s: float) -> bool:
        return now_s > self._deadline_s(watched) and not watched.is_provisional

    def _deadline_s(self, watched: WatchedRun) -> float:
        return self._since_s(watched.alive_s) + watched.timeout_s

    def _since_s(self, moment_s: float) -> float:
        return max(moment_s, self._hearing_since_s)

    def _is_stalled(self, watched: WatchedRun) -> bool:
        """Returns whether a beat came after the time for a new step was over, without one."""
        return (
            watched.stalled_since_unix_ns is None
            and watched.last is not None
            and watched.run.state is not RunState.STOPPING
            and watched.alive_s > self._since_s(watched.progress_s) + watched.stall_timeout_s
        )

    def _is_left_behind(self, watched: WatchedRun, writer: WatchedWriter, now_s: float) -> bool:
        """Returns whether the writer is silent, and others were heard well after it: else it is the run that falls silent."""
        silent_since_s = self._since_s(writer.heard_s)
        return (
            now_s > silent_since_s + watched.timeout_s
            and watched.alive_s >= silent_since_s + watched.timeout_s / 2
        )

    def _take_step(
        self, watched: WatchedRun, writer: WatchedWriter, step: int, heard_s: float, unix_ns: int
    ) -> None:
        """Takes in a writer's new highest step. The first that is heard of tells nothing new of a run flagged before."""
        is_progress = writer.step is not None or watched.stalled_since_unix_ns is None
        writer.step = step
        is_highest = watched.step is None or step > watched.step
        if is_highest:
            watched.step = step
        if not is_progress:
            return
        watched.progress_s = max(watched.progress_s, heard_s)
        watched.progress_unix_ns = unix_ns
        if is_highest and len(watched.writers) > 1:
            watched.note_pace(heard_s)
        if watched.stalled_since_unix_ns is not None:
            watched.stalled_since_unix_ns = None
            evidence = (
                f"writer {writer.number} came to step {step:,}, told by agent {writer.agent_id}"
            )
            self._notices.append(Notice(watched.run, RunEventKind.PROGRESSED, evidence))
            self._schedule(watched, heard_s)

    def _take_back(self, watched: WatchedRun, writer: WatchedWriter) -> None:
        writer.is_lost = False
        evidence = f"a heartbeat of writer {writer.number} came from agent {writer.agent_id}"
        kind = RunEventKind.WRITER_RETURNED
        self._notices.append(Notice(watched.run, kind, evidence, writer.number))
        self._schedule(watched, watched.alive_s)


def _verdict(watched: WatchedRun, now_s: float) -> Verdict:
    return Verdict(
        run=watched.run,
        silence_s=now_s - watched.alive_s,
        evidence=watched.crash_evidence(now_s),
        last_beat_unix_ns=watched.last.heard_unix_ns if watched.last else None,
    )
