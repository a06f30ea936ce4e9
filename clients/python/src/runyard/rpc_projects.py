"""Reads projects, and reads and writes their settings: the calls of `Api().project()` and `runyard projects`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration

from runyard.errors import InvalidArgument
from runyard.records import ProjectRecord
from runyard.rpc import METADATA, Connection, project_record
from runyard_protos.metadata.v1 import metadata_pb2 as pb

PAGE_SIZE = 100
END_RULES = {"last": "END_RULE_LAST_WRITER", "primary": "END_RULE_PRIMARY"}
FORMATS = {"json": "NOTIFICATION_FORMAT_JSON", "slack": "NOTIFICATION_FORMAT_SLACK"}
STATES = ("pending", "sent", "dead", "suppressed")
_DURATIONS = {
    "crash_timeout_s": "crash_timeout",
    "stall_timeout_s": "stall_timeout",
    "trash_window_s": "trash_window",
}


@dataclasses.dataclass(frozen=True)
class NotificationTarget:
    """A receiver of notifications."""

    name: str
    url: str
    format: str = "json"
    """json or slack."""
    secret: str = ""
    """Key of the signature. Comes back as "***" where one is set, and "***" keeps it."""
    events: tuple[str, ...] = ()
    """failed, crashed, killed, finished, preempted, stalled, alert; none: failed, crashed, stalled, killed, alert."""
    is_disabled: bool = False


@dataclasses.dataclass(frozen=True)
class ProjectSettings:
    """What a project has set; None (0 for straggler_steps): the server's default."""

    crash_timeout_s: float | None = None
    """Silence after which a run counts as crashed."""
    stall_timeout_s: float | None = None
    """Time without a new step after which a run is flagged as stalled; 0: never."""
    straggler_steps: int = 0
    """Steps behind the median after which a writer counts as a straggler."""
    end_rule: str = "last"
    """When a run of several writers ends: last, with its last writer; primary, with its primary one."""
    trash_window_s: float | None = None
    """How long deleted runs stay in the trash."""
    notification_targets: tuple[NotificationTarget, ...] = ()
    """Who is told of what."""


@dataclasses.dataclass(frozen=True)
class NotificationRecord:
    """A notification and what became of it."""

    id: int
    run_path: str
    event: str
    target: str
    state: str
    """pending, sent, dead or suppressed."""
    try_count: int
    last_error: str
    create_time_s: float


def read_project(connection: Connection, path: str) -> ProjectRecord:
    """Returns the project at entity/project; raises NotFound."""
    request = pb.GetProjectRequest(path=path)
    reply = connection.call(METADATA + "GetProject", request, pb.GetProjectResponse)
    return project_record(reply.project)


def read_settings(connection: Connection, path: str) -> ProjectSettings:
    """Returns the settings of the project; raises NotFound."""
    request = pb.GetProjectRequest(path=path)
    reply = connection.call(METADATA + "GetProject", request, pb.GetProjectResponse)
    return _settings(reply.project.settings)


def write_settings(connection: Connection, path: str, changes: dict[str, Any]) -> ProjectSettings:
    """Changes the named members, each as ProjectSettings has it, and returns all; raises NotFound, InvalidArgument."""
    request = pb.UpdateProjectRequest(project=pb.Project(path=path))
    settings = request.project.settings
    known = {field.name for field in dataclasses.fields(ProjectSettings)}
    for name, value in changes.items():
        if name not in known:
            raise InvalidArgument(
                f"a project has no setting {name!r}; it has {', '.join(sorted(known))}",
                reason="FIELD_INVALID",
            )
        if name in _DURATIONS:
            if value is not None:
                getattr(settings, _DURATIONS[name]).CopyFrom(_duration(name, value))
        elif name == "end_rule":
            settings.end_rule = pb.EndRule.Value(_choice(name, value, END_RULES))
        elif name == "notification_targets":
            settings.notification_targets.extend(map(_target_message, value))
        else:
            settings.straggler_steps = value
        request.update_mask.paths.append("settings." + _DURATIONS.get(name, name))
    reply = connection.call(METADATA + "UpdateProject", request, pb.UpdateProjectResponse)
    return _settings(reply.project.settings)


def list_notifications(
    connection: Connection, path: str, *, states: Sequence[str] = ()
) -> Iterator[NotificationRecord]:
    """Yields the notifications of the project, newest first; only those in `states` if any are named."""
    wanted = [
        pb.NotificationState.Value(f"NOTIFICATION_STATE_{_known_state(state).upper()}")
        for state in states
    ]
    token = ""
    while True:
        request = pb.ListNotificationsRequest(
            project_path=path, states=wanted, page_size=PAGE_SIZE, page_token=token
        )
        reply = connection.call(
            METADATA + "ListNotifications", request, pb.ListNotificationsResponse
        )
        yield from map(_notification, reply.notifications)
        token = reply.next_page_token
        if not token:
            return


def _settings(settings: pb.ProjectSettings) -> ProjectSettings:
    present = {field.name: value for field, value in settings.ListFields()}
    times = {
        member: present[field].ToNanoseconds() / 1e9 if field in present else None
        for member, field in _DURATIONS.items()
    }
    rules = {value: name for name, value in END_RULES.items()}
    return ProjectSettings(
        **times,
        straggler_steps=settings.straggler_steps,
        end_rule=rules.get(pb.EndRule.Name(settings.end_rule), "last"),
        notification_targets=tuple(map(_target, settings.notification_targets)),
    )


def _target(target: pb.NotificationTarget) -> NotificationTarget:
    is_slack = target.format == pb.NOTIFICATION_FORMAT_SLACK
    return NotificationTarget(
        target.name,
        target.url,
        "slack" if is_slack else "json",
        target.secret,
        tuple(target.events),
        target.is_disabled,
    )


def _target_message(target: NotificationTarget) -> pb.NotificationTarget:
    return pb.NotificationTarget(
        name=target.name,
        url=target.url,
        format=pb.NotificationFormat.Value(_choice("format", target.format, FORMATS)),
        secret=target.secret,
        events=target.events,
        is_disabled=target.is_disabled,
    )


def _notification(one: pb.Notification) -> NotificationRecord:
    return NotificationRecord(
        id=one.notification_id,
        run_path=one.run_path,
        event=one.event_name,
        target=one.target.name,
        state=pb.NotificationState.Name(one.state).removeprefix("NOTIFICATION_STATE_").lower(),
        try_count=one.try_count,
        last_error=one.last_error,
        create_time_s=one.create_time.ToNanoseconds() / 1e9,
    )


def _duration(name: str, value: Any) -> Duration:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e10:
        raise InvalidArgument(f"{name} is {value!r}; it must be seconds", reason="FIELD_INVALID")
    duration = Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


def _choice(name: str, value: Any, known: dict[str, str]) -> str:
    if value not in known:
        raise InvalidArgument(
            f"{name} is {value!r}; it may be {' or '.join(known)}", reason="FIELD_INVALID"
        )
    return known[value]


def _known_state(state: str) -> str:
    if state not in STATES:
        raise InvalidArgument(
            f"no notification is {state!r}; they are {', '.join(STATES)}", reason="FIELD_INVALID"
        )
    return state
