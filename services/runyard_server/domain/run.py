"""Runs: their names, states and documents."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass, field
from typing import NewType

from runyard_server.domain.errors import InvalidArgument

RunKey = NewType("RunKey", int)
"""64-bit key of a run, ordered by creation: creation in Unix ms << 22 | 22 random bits."""

DEFAULT_ENTITY = "local"
DEFAULT_PROJECT = "uncategorized"
RUN_ID_LENGTH_MAX = 64
PROJECT_NAME_LENGTH_MAX = 128
RUN_ID_FORBIDDEN = frozenset("/\\#?%:;,'")
PROJECT_NAME_FORBIDDEN = frozenset("/\\#?%:")
_RUN_KEY_RANDOM_BITS = 22


class RunState(enum.Enum):
    """State of a run; the value is the name users see."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    FAILED = "failed"
    CRASHED = "crashed"
    KILLED = "killed"
    PREEMPTED = "preempted"


LIVE_STATES = frozenset({RunState.PENDING, RunState.RUNNING, RunState.STOPPING})


class TransitionCause(enum.Enum):
    """Why a run changed state; see metadata.v1.TransitionCause."""

    STARTED = "started"
    RESUMED = "resumed"
    FINISH_CALLED = "finish_called"
    PROCESS_EXITED = "process_exited"
    UNHANDLED_EXCEPTION = "unhandled_exception"
    SIGNAL = "signal"
    PROCESS_VANISHED = "process_vanished"
    HEARTBEAT_LOST = "heartbeat_lost"
    HEARTBEAT_RETURNED = "heartbeat_returned"
    USER_REQUEST = "user_request"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out_of_memory"


_STARTS = frozenset({TransitionCause.STARTED})
_RESUMES = frozenset({TransitionCause.RESUMED})
_ENDS_WELL = frozenset({TransitionCause.FINISH_CALLED, TransitionCause.PROCESS_EXITED})
_ENDS_BADLY = _ENDS_WELL | {TransitionCause.UNHANDLED_EXCEPTION}
_VANISHES = frozenset(
    {
        TransitionCause.PROCESS_VANISHED,
        TransitionCause.PROCESS_EXITED,
        TransitionCause.HEARTBEAT_LOST,
        TransitionCause.OUT_OF_MEMORY,
    }
)
_FORCES = frozenset({TransitionCause.SIGNAL, TransitionCause.USER_REQUEST})
_PREEMPTS = _FORCES | _ENDS_BADLY | {TransitionCause.PREEMPTED}
_CORRECTS = frozenset({TransitionCause.PROCESS_EXITED, TransitionCause.SIGNAL}) | (
    _VANISHES - {TransitionCause.HEARTBEAT_LOST}
)
"""What the system may say of a process after its own word: that it ended otherwise than it believed."""
_ENDINGS: dict[RunState, frozenset[TransitionCause]] = {
    RunState.FINISHED: _ENDS_WELL,
    RunState.FAILED: _ENDS_BADLY,
    RunState.CRASHED: _VANISHES,
    RunState.KILLED: _FORCES,
    RunState.PREEMPTED: _PREEMPTS,
}
_LATE_ENDINGS: dict[RunState, frozenset[TransitionCause]] = {
    state: causes for state, causes in _ENDINGS.items() if state is not RunState.CRASHED
}

RUN_TRANSITIONS: dict[RunState | None, dict[RunState, frozenset[TransitionCause]]] = {
    None: {RunState.PENDING: _STARTS, RunState.RUNNING: _STARTS},
    RunState.PENDING: {RunState.RUNNING: _STARTS | _RESUMES, **_ENDINGS},
    RunState.RUNNING: {
        RunState.RUNNING: _RESUMES,
        RunState.STOPPING: _FORCES,
        **_ENDINGS,
    },
    RunState.STOPPING: {
        RunState.RUNNING: _RESUMES | {TransitionCause.USER_REQUEST},
        **_ENDINGS,
    },
    RunState.CRASHED: {
        RunState.RUNNING: _RESUMES | {TransitionCause.HEARTBEAT_RETURNED},
        **_LATE_ENDINGS,
    },
    RunState.FINISHED: {
        RunState.RUNNING: _RESUMES,
        RunState.FAILED: _CORRECTS & _ENDS_BADLY,
        RunState.CRASHED: _CORRECTS & _VANISHES,
        RunState.KILLED: _CORRECTS & _FORCES,
    },
    RunState.FAILED: {
        RunState.RUNNING: _RESUMES,
        RunState.FINISHED: frozenset({TransitionCause.PROCESS_EXITED}),
        RunState.CRASHED: _CORRECTS & _VANISHES,
        RunState.KILLED: _CORRECTS & _FORCES,
    },
    RunState.KILLED: {RunState.RUNNING: _RESUMES},
    RunState.PREEMPTED: {RunState.RUNNING: _RESUMES},
}
"""The state machine of a run: from → to → the causes that may bring it about.

```
 (none) ──► pending ──► running ◄──► stopping          running → running: a process took over from its predecessor
                │          │ ▲          │
                ▼          ▼ │resumed   ▼
            finished  failed  killed  preempted        crashed → running: resumed, or a late heartbeat
                      crashed ──► finished …           crashed → an end: the truth arrived after the verdict
                      finished ──► failed …            finished, failed → another end: the process said one, the system
                      failed ──► finished …            says another (a code that a script caught, an exit handler that crashed)
```
"""


def is_transition_allowed(
    from_state: RunState | None, to_state: RunState, cause: TransitionCause
) -> bool:
    """Returns whether a run may go from the one state to the other for that cause."""
    return cause in RUN_TRANSITIONS[from_state].get(to_state, frozenset())


def end_state(cause: TransitionCause, exit_code: int | None) -> RunState:
    """Returns the state that a writer's end means: the cause decides, then the exit code.

    An end that nobody can explain (no code, and not by finish()) counts as crashed.
    """
    match cause:
        case TransitionCause.UNHANDLED_EXCEPTION:
            return RunState.FAILED
        case TransitionCause.SIGNAL | TransitionCause.USER_REQUEST:
            return RunState.KILLED
        case TransitionCause.PREEMPTED:
            return RunState.PREEMPTED
        case (
            TransitionCause.PROCESS_VANISHED
            | TransitionCause.HEARTBEAT_LOST
            | TransitionCause.OUT_OF_MEMORY
        ):
            return RunState.CRASHED
    if exit_code is None:
        is_told = cause is TransitionCause.FINISH_CALLED
        return RunState.FINISHED if is_told else RunState.CRASHED
    return RunState.FINISHED if exit_code == 0 else RunState.FAILED


@dataclass(frozen=True, slots=True)
class RunTransition:
    """One change of a run's state; `from_state` is None for the first."""

    from_state: RunState | None
    to_state: RunState
    cause: TransitionCause
    evidence: str
    actor: str
    record_time_unix_ns: int
    attempt: int


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What the monitor needs to know of a live run; None, and 0 steps, mean the monitor's default."""

    run_key: RunKey
    path: str
    state: RunState
    attempt_count: int
    crash_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    straggler_steps: int = 0
    stalled_since_unix_ns: int | None = None


class StopStage(enum.IntEnum):
    """How far a stop has come; see metadata.v1.StopStage. Later stages are greater."""

    REQUESTED = 1
    ACKNOWLEDGED = 2
    DRAINING = 3
    TERMINATED = 4
    KILLED = 5


@dataclass(frozen=True, slots=True)
class StopStatus:
    """A stop that was asked for, and how far it has come; see metadata.v1.StopStatus."""

    stage: StopStage
    requested_by: str
    reason: str
    request_time_unix_ns: int
    grace_s: float
    may_kill: bool
    acknowledge_time_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RunException:
    """The exception that ended a run; see metadata.v1.RunException."""

    type: str
    message: str
    traceback: str
    writer_label: str = ""


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """Where a fork left its parent: the parent's points up to `step` are its own."""

    run_path: str
    run_key: RunKey
    step: int


@dataclass(frozen=True, slots=True)
class Cut:
    """What one rewind superseded: points of the writers up to `writer_max` at steps above `last_step`."""

    writer_max: int
    last_step: int


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Points that are part of a run's current history: its own or an ancestor's.

    A point of the run counts if its step is at most `last_step` (None: any), its writer at most `writer_max` (0: any), and
    no cut takes it away. For one (metric, step) that several parts hold, all count: they differ in run and writer.
    """

    run_key: RunKey
    last_step: int | None = None
    writer_max: int = 0
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """Machine and program of a run; empty text where not known."""

    hostname: str = ""
    username: str = ""
    os: str = ""
    python_version: str = ""
    python_executable: str = ""
    command: str = ""
    working_directory: str = ""
    pid: int = 0
    client_version: str = ""
    cpu_count: int = 0
    extra_json: str = ""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """How one metric, or all that match a glob, is treated; see metadata.v1.MetricDefinition."""

    name: str
    step_metric: str = ""
    summaries: tuple[str, ...] = ()
    goal: str = ""
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class RunDocument:
    """A run as metadata knows it; times in Unix nanoseconds, None where not set."""

    run_key: RunKey
    entity: str
    project: str
    run_id: str
    display_name: str
    state: RunState
    config_json: str = "{}"
    notes: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""
    job_type: str = ""
    create_time_unix_ns: int = 0
    start_time_unix_ns: int | None = None
    end_time_unix_ns: int | None = None
    heartbeat_time_unix_ns: int | None = None
    update_time_unix_ns: int = 0
    exit_code: int | None = None
    host: Host = field(default_factory=Host)
    metric_definitions: tuple[MetricDefinition, ...] = ()
    attempt_count: int = 1
    writer_count: int = 1
    is_deleted: bool = False
    delete_time_unix_ns: int | None = None
    exception: RunException | None = None
    stop: StopStatus | None = None
    """The stop that was asked for in the current attempt."""
    stalled_since_unix_ns: int | None = None
    fork: ForkPoint | None = None
    history_parts: tuple[HistoryPart, ...] = ()
    """Where the current history lies, the run's own part first; () means all of the run's own points and no others."""
    preemption_notice: str = ""
    past_active_ns: int = 0
    """Time computed in the attempts before the current one."""
    attempt_start_unix_ns: int | None = None
    """When the current attempt's first init() ran; None for runs of before attempts were timed: the start of the run."""
    version: int = 0
    """Rises with each change of the document; the index keeps the highest."""

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        return f"{self.entity}/{self.project}/{self.run_id}"

    def active_ns(self, now_unix_ns: int) -> int:
        """Returns the time spent computing: all attempts, without the pauses between them."""
        start = self.attempt_start_unix_ns or self.start_time_unix_ns or self.create_time_unix_ns
        end = now_unix_ns if self.end_time_unix_ns is None else self.end_time_unix_ns
        return self.past_active_ns + max(0, end - start)


def make_run_key(create_time_unix_ms: int, random_bits: int) -> RunKey:
    """Returns the key of a run made at that time; `random_bits` is cut to 22 bits."""
    assert create_time_unix_ms >= 0
    return RunKey(
        create_time_unix_ms << _RUN_KEY_RANDOM_BITS
        | random_bits & ((1 << _RUN_KEY_RANDOM_BITS) - 1)
    )


def run_key_time_unix_ms(run_key: RunKey) -> int:
    """Returns when the run of that key was made, Unix milliseconds."""
    return run_key >> _RUN_KEY_RANDOM_BITS


def check_run_id(run_id: str) -> str:
    """Returns the id if it may name a run, else raises InvalidArgument."""
    return _check_name(run_id, field="run_id", length_max=RUN_ID_LENGTH_MAX, bad=RUN_ID_FORBIDDEN)


def check_project_name(name: str) -> str:
    """Returns the name if it may name a project, else raises InvalidArgument."""
    return _check_name(
        name, field="project", length_max=PROJECT_NAME_LENGTH_MAX, bad=PROJECT_NAME_FORBIDDEN
    )


def check_entity_name(name: str) -> str:
    """Returns the name if it may name an entity, else raises InvalidArgument."""
    return _check_name(
        name, field="entity", length_max=PROJECT_NAME_LENGTH_MAX, bad=PROJECT_NAME_FORBIDDEN
    )


def split_run_path(path: str) -> tuple[str, str, str]:
    """Returns (entity, project, run_id) of "entity/project/run_id"; raises InvalidArgument if it is not one."""
    parts = path.split("/")
    if len(parts) != 3 or not all(parts):
        raise InvalidArgument(
            "FIELD_INVALID",
            f"run path {path[:256]!r} is not of the form entity/project/run_id",
            metadata={"field": "run_path", "value": path[:256]},
        )
    return parts[0], parts[1], parts[2]


def split_project_path(path: str) -> tuple[str, str]:
    """Returns (entity, project) of "entity/project"; raises InvalidArgument if it is not one."""
    parts = path.split("/")
    if len(parts) != 2 or not all(parts):
        raise InvalidArgument(
            "FIELD_INVALID",
            f"project path {path[:256]!r} is not of the form entity/project",
            metadata={"field": "project_path", "value": path[:256]},
        )
    return parts[0], parts[1]


def _check_name(name: str, *, field: str, length_max: int, bad: frozenset[str]) -> str:
    problem = ""
    if not name:
        problem = "is empty"
    elif len(name) > length_max:
        problem = f"has {len(name)} characters, at most {length_max} are allowed"
    elif name != name.strip():
        problem = "begins or ends with a space"
    elif name in (".", ".."):
        problem = "is a relative folder name"
    else:
        wrong = sorted({c for c in name if c in bad or unicodedata.category(c) in ("Cc", "Cs")})
        if wrong:
            problem = "holds " + " ".join(repr(c) for c in wrong) + ", which no name may hold"
    if problem:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"{field} {name[:256]!r} {problem}",
            metadata={"field": field, "value": name[:256], "limit": length_max},
        )
    return name
