"""Turns runs, as the domain has them, into messages of metadata.v1 and back."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.projects import Project
from runyard_server.domain.run import (
    Host,
    LiveRun,
    MetricDefinition,
    RunDocument,
    RunKey,
    RunState,
    RunTransition,
    TransitionCause,
)

NS_PER_S: Final = 1_000_000_000
TIMESTAMP_SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999, the latest that a Timestamp may say."""

_STATES: Final = {state: pb.RunState.Value(f"RUN_STATE_{state.name}") for state in RunState}
_STATE_BY_NUMBER: Final = {number: state for state, number in _STATES.items()}
_CAUSES: Final = {
    cause: pb.TransitionCause.Value(f"TRANSITION_CAUSE_{cause.name}") for cause in TransitionCause
}
_CAUSE_BY_NUMBER: Final = {number: cause for cause, number in _CAUSES.items()}


def run_to_message(document: RunDocument, *, with_config: bool = True) -> pb.Run:
    """Returns the run as a message; `with_config` False leaves config_json empty, as lists do."""
    message = pb.Run(
        path=document.path,
        run_key=document.run_key,
        entity=document.entity,
        project=document.project,
        run_id=document.run_id,
        display_name=document.display_name,
        state=state_to_number(document.state),
        config_json=document.config_json if with_config else "",
        notes=document.notes,
        tags=document.tags,
        group=document.group,
        job_type=document.job_type,
        create_time=timestamp_from_unix_ns(document.create_time_unix_ns),
        start_time=_optional_timestamp(document.start_time_unix_ns),
        end_time=_optional_timestamp(document.end_time_unix_ns),
        heartbeat_time=_optional_timestamp(document.heartbeat_time_unix_ns),
        update_time=timestamp_from_unix_ns(document.update_time_unix_ns),
        exit_code=document.exit_code,
        host=host_to_message(document.host),
        metric_definitions=[definition_to_message(d) for d in document.metric_definitions],
        attempt_count=document.attempt_count,
        writer_count=document.writer_count,
    )
    return message


def run_from_message(message: pb.Run) -> RunDocument:
    """Returns the run that the message holds; `is_deleted` and `version` are not on the wire and stay at their defaults."""
    return RunDocument(
        run_key=RunKey(message.run_key),
        entity=message.entity,
        project=message.project,
        run_id=message.run_id,
        display_name=message.display_name,
        state=state_from_number(message.state, field="state"),
        config_json=message.config_json or "{}",
        notes=message.notes,
        tags=tuple(message.tags),
        group=message.group,
        job_type=message.job_type,
        create_time_unix_ns=unix_ns_from_timestamp(message.create_time),
        start_time_unix_ns=optional_unix_ns(message, "start_time"),
        end_time_unix_ns=optional_unix_ns(message, "end_time"),
        heartbeat_time_unix_ns=optional_unix_ns(message, "heartbeat_time"),
        update_time_unix_ns=unix_ns_from_timestamp(message.update_time),
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        host=host_from_message(message.host),
        metric_definitions=tuple(definition_from_message(d) for d in message.metric_definitions),
        attempt_count=message.attempt_count,
        writer_count=message.writer_count,
    )


def project_to_message(project: Project) -> pb.Project:
    """Returns the project as a message."""
    return pb.Project(
        path=project.path,
        entity=project.entity,
        name=project.name,
        description=project.description,
        create_time=timestamp_from_unix_ns(project.create_time_unix_ns),
        activity_time=timestamp_from_unix_ns(project.activity_time_unix_ns),
        run_count=project.run_count,
        live_run_count=project.live_run_count,
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
    )


def host_to_message(host: Host) -> pb.Host:
    """Returns the host as a message."""
    return pb.Host(
        hostname=host.hostname,
        username=host.username,
        os=host.os,
        python_version=host.python_version,
        python_executable=host.python_executable,
        command=host.command,
        working_directory=host.working_directory,
        pid=host.pid,
        client_version=host.client_version,
        cpu_count=host.cpu_count,
        extra_json=host.extra_json,
    )


def host_from_message(message: pb.Host) -> Host:
    """Returns the host that the message holds."""
    return Host(
        hostname=message.hostname,
        username=message.username,
        os=message.os,
        python_version=message.python_version,
        python_executable=message.python_executable,
        command=message.command,
        working_directory=message.working_directory,
        pid=message.pid,
        client_version=message.client_version,
        cpu_count=message.cpu_count,
        extra_json=message.extra_json,
    )


def definition_to_message(definition: MetricDefinition) -> pb.MetricDefinition:
    """Returns the metric definition as a message."""
    return pb.MetricDefinition(
        name=definition.name,
        step_metric=definition.step_metric,
        summaries=definition.summaries,
        goal=definition.goal,
        is_hidden=definition.is_hidden,
    )


def definition_from_message(message: pb.MetricDefinition) -> MetricDefinition:
    """Returns the metric definition that the message holds."""
    return MetricDefinition(
        name=message.name,
        step_metric=message.step_metric,
        summaries=tuple(message.summaries),
        goal=message.goal,
        is_hidden=message.is_hidden,
    )


def transition_to_message(transition: RunTransition) -> pb.RunTransition:
    """Returns the transition as a message."""
    before = transition.from_state
    message = pb.RunTransition(
        to=state_to_number(transition.to_state),
        cause=cause_to_number(transition.cause),
        evidence=transition.evidence,
        actor=transition.actor,
        record_time=timestamp_from_unix_ns(transition.record_time_unix_ns),
        attempt=transition.attempt,
    )
    if before is not None:
        setattr(message, "from", state_to_number(before))
    return message


def live_run_to_message(run: LiveRun) -> pb.LiveRun:
    """Returns the live run as a message."""
    message = pb.LiveRun(
        run_key=run.run_key,
        path=run.path,
        state=state_to_number(run.state),
        attempt_count=run.attempt_count,
    )
    if run.crash_timeout_s is not None:
        message.crash_timeout.CopyFrom(duration_from_s(run.crash_timeout_s))
    return message


def live_run_from_message(message: pb.LiveRun) -> LiveRun:
    """Returns the live run that the message holds."""
    has_timeout = message.HasField("crash_timeout")
    return LiveRun(
        run_key=RunKey(message.run_key),
        path=message.path,
        state=state_from_number(message.state, field="state"),
        attempt_count=message.attempt_count,
        crash_timeout_s=message.crash_timeout.ToNanoseconds() / NS_PER_S if has_timeout else None,
    )


def state_to_number(state: RunState) -> pb.RunState.ValueType:
    """Returns the enum value of a state."""
    return _STATES[state]


def state_from_number(number: int, *, field: str) -> RunState:
    """Returns the state of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    state = _STATE_BY_NUMBER.get(pb.RunState.ValueType(number))
    if state is None:
        raise _unknown_enum(field, number, "RunState")
    return state


def cause_to_number(cause: TransitionCause) -> pb.TransitionCause.ValueType:
    """Returns the enum value of a cause."""
    return _CAUSES[cause]


def cause_from_number(number: int, *, field: str) -> TransitionCause:
    """Returns the cause of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    cause = _CAUSE_BY_NUMBER.get(pb.TransitionCause.ValueType(number))
    if cause is None:
        raise _unknown_enum(field, number, "TransitionCause")
    return cause


def timestamp_from_unix_ns(unix_ns: int) -> Timestamp:
    """Returns the moment as a Timestamp, exact; what lies outside the years 1 to 9999 is moved to the nearer end."""
    seconds, nanos = divmod(unix_ns, NS_PER_S)
    if seconds > TIMESTAMP_SECONDS_MAX:
        seconds, nanos = TIMESTAMP_SECONDS_MAX, NS_PER_S - 1
    return Timestamp(seconds=seconds, nanos=nanos)


def unix_ns_from_timestamp(timestamp: Timestamp) -> int:
    """Returns the moment in Unix nanoseconds, exact; 0 for an absent one."""
    return timestamp.seconds * NS_PER_S + timestamp.nanos


def optional_unix_ns(
    message: pb.Run | pb.StartRunRequest | pb.FinishRunRequest | pb.RecordTransitionRequest,
    field: str,
) -> int | None:
    """Returns the moment in the message's Timestamp field in Unix nanoseconds, or None if it is absent."""
    if not message.HasField(field):  # type: ignore[arg-type]  # the stubs want a literal
        return None
    return unix_ns_from_timestamp(getattr(message, field))


def duration_from_s(duration_s: float) -> Duration:
    """Returns the Duration nearest to `duration_s`, to the nanosecond."""
    duration = Duration()
    duration.FromNanoseconds(round(duration_s * NS_PER_S))
    return duration


def _optional_timestamp(unix_ns: int | None) -> Timestamp | None:
    return None if unix_ns is None else timestamp_from_unix_ns(unix_ns)


def _unknown_enum(field: str, number: int, enum_name: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} is {number}, which is no value of {enum_name} that may be sent",
        metadata={"field": field, "value": number},
    )
