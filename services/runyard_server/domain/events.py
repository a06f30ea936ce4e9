"""Events of a run: all that happened to it, its changes of state among them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from runyard_server.domain.run import RunTransition


class RunEventKind(enum.Enum):
    """What happened; see metadata.v1.RunEventKind."""

    TRANSITION = "transition"
    STOP_REQUESTED = "stop_requested"
    STOP_ACKNOWLEDGED = "stop_acknowledged"
    STOP_DRAINING = "stop_draining"
    STOP_FORCED = "stop_forced"
    STALLED = "stalled"
    PROGRESSED = "progressed"
    WRITER_LOST = "writer_lost"
    WRITER_RETURNED = "writer_returned"
    ALERT = "alert"
    REWOUND = "rewound"
    FORKED = "forked"
    DELETED = "deleted"
    RESTORED = "restored"
    PREEMPTION_NOTICED = "preemption_noticed"


class AlertLevel(enum.Enum):
    """How much an alert matters; see metadata.v1.AlertLevel."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened to a run; `writer` 0 is the run as a whole, `number` 0 is not stored yet."""

    kind: RunEventKind
    evidence: str
    actor: str
    record_time_unix_ns: int
    attempt: int
    writer: int = 0
    title: str = ""
    level: AlertLevel | None = None
    transition: RunTransition | None = None
    """For TRANSITION: which; its evidence, actor, time and attempt are the event's."""
    number: int = 0
    wait_s: float = 0.0
    """For ALERT: for how long another one of its title is not sent on; not stored."""

    @staticmethod
    def of(transition: RunTransition) -> RunEvent:
        """Returns the event that a change of state is."""
        return RunEvent(
            kind=RunEventKind.TRANSITION,
            evidence=transition.evidence,
            actor=transition.actor,
            record_time_unix_ns=transition.record_time_unix_ns,
            attempt=transition.attempt,
            transition=transition,
        )
