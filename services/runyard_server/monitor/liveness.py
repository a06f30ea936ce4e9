"""Who is alive: beats and one monotonic clock in, verdicts out; pure, it reads no clock and calls nobody.

```
   learn (start, resume, lookup)        beat                    silence > timeout
 unknown ───────────────────────► live ──────► live (later) ──────────────────────► due ──► Verdict, until settled
                                   ▲                                                 │
                                   └──────────────────── beat ───────────────────────┘
```

Only silence counts, measured on the monitor's own clock: nothing that another machine's clock says enters a verdict. What the
monitor could not hear counts as no silence: its own start, and every stall of its own, begins a full timeout for all runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from runyard_server.domain.run import LiveRun, RunKey


@dataclass(frozen=True, slots=True)
class LivenessRules:
    """When silence becomes a verdict."""

    crash_timeout_s: float
    """Silence after which a run counts as crashed, unless it has a timeout of its own."""
    stall_limit_s: float
    """Longest time between two looks at the clock; after a longer one the monitor itself was away."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One run's sign of life, as an agent told it."""

    run_key: RunKey
    writer: int
    is_process_alive: bool = True
    last_step: int | None = None
    records_written: int = 0
    records_durable: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run that has been silent for too long, and what shows it."""

    run: LiveRun
    silence_s: float
    evidence: str
    last_beat_unix_ns: int | None
    """Server time of the last beat; None if there was none since the monitor learned of the run."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """What is known of one live run."""

    run: LiveRun
    crash_timeout_s: float
    last_beat_unix_ns: int | None
    records_written: int
    records_durable: int


@dataclass(slots=True)
class _Entry:
    run: LiveRun
    alive_s: float
    learned_s: float
    last_beat_unix_ns: int | None = None
    agent_id: str = ""
    beats: dict[int, Beat] = field(default_factory=dict)


class LivenessTable:
    """Remembers the live runs and when each last gave a sign of life."""

    def __init__(self, rules: LivenessRules) -> None:
        self._rules = rules
        self._entries: dict[RunKey, _Entry] = {}
        self._keys_by_path: dict[str, RunKey] = {}
        self._looked_s: float | None = None
        # Nothing before this moment counts as silence.
        self._hearing_since_s = float("-inf")

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, run_key: object) -> bool:
        return run_key in self._entries

    def learn(self, run: LiveRun, *, now_s: float) -> None:
        """Takes in a run that metadata says is live; a new one, and a new attempt, is a sign of life."""
        self.look(now_s)
        entry = self._entries.get(run.run_key)
        if entry is None:
            self._entries[run.run_key] = _Entry(run, alive_s=now_s, learned_s=now_s)
            self._keys_by_path[run.path] = run.run_key
            return
        if run.attempt_count > entry.run.attempt_count:
            entry.alive_s = max(entry.alive_s, now_s)
        if run.attempt_count >= entry.run.attempt_count:
            entry.run = run

    def reconcile(self, live_runs: Iterable[LiveRun], *, asked_s: float, now_s: float) -> None:
        """Takes in all live runs as metadata knew them some time after `asked_s`, and forgets those that are not among them.

        What was learned after the question stays: the answer cannot speak of it.
        """
        self.look(now_s)
        known = set()
        for run in live_runs:
            known.add(run.run_key)
            self.learn(run, now_s=now_s)
        for run_key, entry in list(self._entries.items()):
            if run_key not in known and entry.learned_s < asked_s:
                self.forget(run_key)

    def note_beat(self, beat: Beat, *, agent_id: str, now_s: float, now_unix_ns: int) -> bool:
        """Takes in a beat; returns False if the run is not known here."""
        self.look(now_s)
        entry = self._entries.get(beat.run_key)
        if entry is None:
            return False
        entry.alive_s = max(entry.alive_s, now_s)
        entry.last_beat_unix_ns = now_unix_ns
        entry.agent_id = agent_id
        entry.beats[beat.writer] = beat
        return True

    def beats_since(self, unix_ns: int) -> list[tuple[RunKey, int]]:
        """Returns (run, server time of its last beat) of runs whose last beat is not before `unix_ns`."""
        return [
            (run_key, entry.last_beat_unix_ns)
            for run_key, entry in self._entries.items()
            if entry.last_beat_unix_ns is not None and entry.last_beat_unix_ns >= unix_ns
        ]

    def forget(self, run_key: RunKey) -> None:
        """Forgets a run that is live no longer, or whose verdict is recorded."""
        entry = self._entries.pop(run_key, None)
        if entry is not None:
            self._keys_by_path.pop(entry.run.path, None)

    def sweep(self, *, now_s: float) -> list[Verdict]:
        """Returns a verdict for each run that is silent for longer than its timeout; again each time, until it is forgotten."""
        self.look(now_s)
        return [
            self._verdict(entry, now_s)
            for entry in self._entries.values()
            if self._is_due(entry, now_s)
        ]

    def is_due(self, run_key: RunKey, *, now_s: float) -> bool:
        """Returns whether the verdict on the run still stands."""
        entry = self._entries.get(run_key)
        return entry is not None and self._is_due(entry, now_s)

    def find(self, path: str) -> Liveness | None:
        """Returns what is known of a live run, or None."""
        run_key = self._keys_by_path.get(path)
        entry = None if run_key is None else self._entries.get(run_key)
        if entry is None:
            return None
        return Liveness(
            run=entry.run,
            crash_timeout_s=self._timeout_s(entry),
            last_beat_unix_ns=entry.last_beat_unix_ns,
            records_written=sum(beat.records_written for beat in entry.beats.values()),
            records_durable=sum(beat.records_durable for beat in entry.beats.values()),
        )

    def look(self, now_s: float) -> bool:
        """Notes that the monitor is awake; returns False if it had been away for too long.

        Then beats may wait unheard, in its sockets or at agents that could not deliver them: all runs get a full timeout.
        """
        last_s, self._looked_s = self._looked_s, now_s
        if last_s is not None and now_s - last_s <= self._rules.stall_limit_s:
            return True
        self._hearing_since_s = now_s
        return last_s is None

    def _is_due(self, entry: _Entry, now_s: float) -> bool:
        return now_s - self._silent_since_s(entry) > self._timeout_s(entry)

    def _silent_since_s(self, entry: _Entry) -> float:
        return max(entry.alive_s, self._hearing_since_s)

    def _timeout_s(self, entry: _Entry) -> float:
        own_s = entry.run.crash_timeout_s
        return self._rules.crash_timeout_s if own_s is None else own_s

    def _verdict(self, entry: _Entry, now_s: float) -> Verdict:
        silence_s = now_s - entry.alive_s
        if entry.last_beat_unix_ns is None:
            what = (
                f"no heartbeat in the {silence_s:.1f} s since the monitor learned of this attempt"
            )
        else:
            what = f"no heartbeat for {silence_s:.1f} s from agent {entry.agent_id}"
        return Verdict(
            run=entry.run,
            silence_s=silence_s,
            evidence=f"{what}; the timeout is {self._timeout_s(entry):g} s",
            last_beat_unix_ns=entry.last_beat_unix_ns,
        )
