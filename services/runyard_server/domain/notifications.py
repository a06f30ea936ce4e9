"""Notifications: what happened to a run, on its way to those whom a project wants told; pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.projects import NotificationTarget
from runyard_server.domain.run import RunKey, RunState

EVENT_NAMES = ("failed", "crashed", "killed", "finished", "preempted", "stalled", "alert")
EVENT_NAMES_DEFAULT = frozenset({"failed", "crashed", "stalled", "killed", "alert"})
_ENDS = {
    RunState.FAILED: "failed",
    RunState.CRASHED: "crashed",
    RunState.KILLED: "killed",
    RunState.FINISHED: "finished",
    RunState.PREEMPTED: "preempted",
}


class NotificationState(enum.Enum):
    """What became of a notification; see metadata.v1.NotificationState."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Notification:
    """One event of a run for one target of its project; `number` 0 is not stored yet. Times in Unix nanoseconds."""

    entity: str
    project: str
    run_key: RunKey
    event_number: int
    event_name: str
    target_name: str
    create_time_unix_ns: int
    state: NotificationState = NotificationState.PENDING
    next_try_time_unix_ns: int | None = None
    title: str = ""
    """Title of an alert: others of the same title may be held back for a while."""
    try_count: int = 0
    last_error: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class NotificationReport:
    """What a try to send gave."""

    number: int
    state: NotificationState
    error: str = ""
    next_try_time_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class OutgoingNotice:
    """A notification with all that its message says; a target without url is gone."""

    number: int
    project_path: str
    run_path: str
    run_display_name: str
    event_name: str
    event: RunEvent
    target: NotificationTarget
    try_count: int


def event_name_of(event: RunEvent) -> str:
    """Returns the name by which targets ask for the event; "" for what nobody is told."""
    if event.kind is RunEventKind.TRANSITION and event.transition is not None:
        return _ENDS.get(event.transition.to_state, "")
    if event.kind is RunEventKind.STALLED:
        return "stalled"
    return "alert" if event.kind is RunEventKind.ALERT else ""


def wants(target: NotificationTarget, event_name: str) -> bool:
    """Returns whether the target asked for events of that name."""
    if target.is_disabled:
        return False
    return event_name in (target.events or EVENT_NAMES_DEFAULT)
