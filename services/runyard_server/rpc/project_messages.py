"""Turns projects, their settings and notifications into messages of metadata.v1 and back."""

from __future__ import annotations

from typing import Final

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.events import RunEvent
from runyard_server.domain.notifications import (
    Notification,
    NotificationReport,
    NotificationState,
    OutgoingNotice,
)
from runyard_server.domain.projects import (
    SECRET_MASK,
    EndRule,
    NotificationFormat,
    NotificationTarget,
    Project,
    ProjectSettings,
)
from runyard_server.domain.run import RunDocument
from runyard_server.rpc.life_messages import event_from_message, event_to_message
from runyard_server.rpc.message_values import (
    duration_from_s,
    optional_duration_s,
    optional_timestamp,
    optional_unix_ns,
    timestamp_from_unix_ns,
    unix_ns_from_timestamp,
    unknown_enum,
)

_END_RULES: Final = {
    pb.END_RULE_UNSPECIFIED: EndRule.LAST_WRITER,
    pb.END_RULE_LAST_WRITER: EndRule.LAST_WRITER,
    pb.END_RULE_PRIMARY: EndRule.PRIMARY,
}
_FORMATS: Final = {
    pb.NOTIFICATION_FORMAT_UNSPECIFIED: NotificationFormat.JSON,
    pb.NOTIFICATION_FORMAT_JSON: NotificationFormat.JSON,
    pb.NOTIFICATION_FORMAT_SLACK: NotificationFormat.SLACK,
}
_STATES: Final = {
    state: pb.NotificationState.Value(f"NOTIFICATION_STATE_{state.name}")
    for state in NotificationState
}
_STATE_BY_NUMBER: Final = {number: state for state, number in _STATES.items()}


def project_to_message(project: Project, *, with_settings: bool = True) -> pb.Project:
    """Returns the project as a message; lists leave the settings out. Secrets are masked."""
    return pb.Project(
        path=project.path,
        entity=project.entity,
        name=project.name,
        description=project.description,
        create_time=timestamp_from_unix_ns(project.create_time_unix_ns),
        activity_time=timestamp_from_unix_ns(project.activity_time_unix_ns),
        run_count=project.run_count,
        live_run_count=project.live_run_count,
        settings=settings_to_message(project.settings) if with_settings else None,
    )


def project_from_message(message: pb.Project) -> Project:
    """Returns the project that the message holds."""
    return Project(
        entity=message.entity,
        name=message.name,
        description=message.description,
        create_time_unix_ns=unix_ns_from_timestamp(message.create_time),
        activity_time_unix_ns=unix_ns_from_timestamp(message.activity_time),
        run_count=message.run_count,
        live_run_count=message.live_run_count,
        settings=settings_from_message(message.settings),
    )


def settings_to_message(settings: ProjectSettings) -> pb.ProjectSettings:
    """Returns the settings as a message, secrets masked."""
    message = pb.ProjectSettings(
        straggler_steps=settings.straggler_steps,
        end_rule=pb.EndRule.Value(f"END_RULE_{settings.end_rule.name}"),
        notification_targets=[
            target_to_message(target, with_secret=False) for target in settings.notification_targets
        ],
    )
    if settings.crash_timeout_s is not None:
        message.crash_timeout.CopyFrom(duration_from_s(settings.crash_timeout_s))
    if settings.stall_timeout_s is not None:
        message.stall_timeout.CopyFrom(duration_from_s(settings.stall_timeout_s))
    if settings.trash_window_s is not None:
        message.trash_window.CopyFrom(duration_from_s(settings.trash_window_s))
    return message


def settings_from_message(message: pb.ProjectSettings) -> ProjectSettings:
    """Returns the settings that the message holds; raises InvalidArgument for unknown enum values."""
    end_rule = _END_RULES.get(message.end_rule)
    if end_rule is None:
        raise unknown_enum("settings.end_rule", message.end_rule, "EndRule")
    return ProjectSettings(
        crash_timeout_s=optional_duration_s(message, "crash_timeout"),
        stall_timeout_s=optional_duration_s(message, "stall_timeout"),
        straggler_steps=message.straggler_steps,
        end_rule=end_rule,
        trash_window_s=optional_duration_s(message, "trash_window"),
        notification_targets=tuple(map(target_from_message, message.notification_targets)),
    )


def target_to_message(target: NotificationTarget, *, with_secret: bool) -> pb.NotificationTarget:
    """Returns the target as a message; without its secret it says only whether there is one."""
    secret = target.secret if with_secret or not target.secret else SECRET_MASK
    return pb.NotificationTarget(
        name=target.name,
        url=target.url,
        format=pb.NotificationFormat.Value(f"NOTIFICATION_FORMAT_{target.format.name}"),
        secret=secret,
        events=target.events,
        is_disabled=target.is_disabled,
    )


def target_from_message(message: pb.NotificationTarget) -> NotificationTarget:
    """Returns the target that the message holds; raises InvalidArgument for unknown enum values."""
    wire_format = _FORMATS.get(message.format)
    if wire_format is None:
        raise unknown_enum(
            "settings.notification_targets.format", message.format, "NotificationFormat"
        )
    return NotificationTarget(
        name=message.name,
        url=message.url,
        format=wire_format,
        secret=message.secret,
        events=tuple(dict.fromkeys(message.events)),
        is_disabled=message.is_disabled,
    )


def notification_to_message(
    notification: Notification,
    event: RunEvent,
    run: RunDocument,
    target: NotificationTarget | None,
    *,
    with_secret: bool,
) -> pb.Notification:
    """Returns the notification as a message; its target's secret is for the one who sends it only."""
    gone = NotificationTarget(notification.target_name, url="", is_disabled=True)
    return pb.Notification(
        notification_id=notification.number,
        project_path=f"{notification.entity}/{notification.project}",
        run_path=run.path,
        run_display_name=run.display_name,
        event_name=notification.event_name,
        event=event_to_message(event),
        target=target_to_message(target or gone, with_secret=with_secret),
        state=_STATES[notification.state],
        try_count=notification.try_count,
        last_error=notification.last_error,
        create_time=timestamp_from_unix_ns(notification.create_time_unix_ns),
        next_try_time=optional_timestamp(notification.next_try_time_unix_ns),
    )


def notice_from_message(message: pb.Notification) -> OutgoingNotice:
    """Returns the notification that the message holds, for the one who sends it."""
    return OutgoingNotice(
        number=message.notification_id,
        project_path=message.project_path,
        run_path=message.run_path,
        run_display_name=message.run_display_name,
        event_name=message.event_name,
        event=event_from_message(message.event),
        target=target_from_message(message.target),
        try_count=message.try_count,
    )


def report_to_message(report: NotificationReport) -> pb.NotificationReport:
    """Returns the report as a message."""
    return pb.NotificationReport(
        notification_id=report.number,
        state=_STATES[report.state],
        error=report.error,
        next_try_time=optional_timestamp(report.next_try_time_unix_ns),
    )


def report_from_message(message: pb.NotificationReport) -> NotificationReport:
    """Returns the report that the message holds; raises InvalidArgument for a state that no try leads to."""
    return NotificationReport(
        number=message.notification_id,
        state=notification_state_from_number(message.state, field="reports.state"),
        error=message.error,
        next_try_time_unix_ns=optional_unix_ns(message, "next_try_time"),
    )


def notification_state_from_number(number: int, *, field: str) -> NotificationState:
    """Returns the state of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    state = _STATE_BY_NUMBER.get(pb.NotificationState.ValueType(number))
    if state is None:
        raise unknown_enum(field, number, "NotificationState")
    return state
