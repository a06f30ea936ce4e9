"""Turns runs, as the domain has them, into messages of metadata.v1 and back."""

from __future__ import annotations

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.run import (
    Host,
    LiveRun,
    MetricDefinition,
    RunDocument,
    RunKey,
)
from runyard_server.rpc import life_messages
from runyard_server.rpc.message_values import (
    NS_PER_S,
    duration_from_s,
    optional_duration_s,
    optional_timestamp,
    optional_unix_ns,
    state_from_number,
    state_to_number,
    timestamp_from_unix_ns,
    unix_ns_from_timestamp,
)


def run_to_message(
    document: RunDocument, *, with_config: bool = True, now_unix_ns: int | None = None
) -> pb.Run:
    """Returns the run as a message; `with_config` False leaves config_json empty, as lists do.

    The active time of a live run is counted up to `now_unix_ns`, or to its last sign of life.
    """
    now = now_unix_ns or document.heartbeat_time_unix_ns or document.update_time_unix_ns
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
        start_time=optional_timestamp(document.start_time_unix_ns),
        end_time=optional_timestamp(document.end_time_unix_ns),
        heartbeat_time=optional_timestamp(document.heartbeat_time_unix_ns),
        update_time=timestamp_from_unix_ns(document.update_time_unix_ns),
        exit_code=document.exit_code,
        host=host_to_message(document.host),
        metric_definitions=[definition_to_message(d) for d in document.metric_definitions],
        attempt_count=document.attempt_count,
        writer_count=document.writer_count,
        active_duration=duration_from_s(document.active_ns(now) / NS_PER_S),
        exception=life_messages.exception_to_message(document.exception),
        stop=life_messages.stop_to_message(document.stop),
        stalled_since_time=optional_timestamp(document.stalled_since_unix_ns),
        fork=life_messages.fork_to_message(document.fork),
        history_parts=[life_messages.part_to_message(part) for part in document.history_parts],
        delete_time=optional_timestamp(document.delete_time_unix_ns),
        preemption_notice=document.preemption_notice,
    )
    return message


def run_from_message(message: pb.Run) -> RunDocument:
    """Returns the run that the message holds; `version` and the parts of its active time are not on the wire."""
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
        is_deleted=message.HasField("delete_time"),
        delete_time_unix_ns=optional_unix_ns(message, "delete_time"),
        exception=life_messages.exception_from_message(message.exception)
        if message.HasField("exception")
        else None,
        stop=life_messages.stop_from_message(message.stop) if message.HasField("stop") else None,
        stalled_since_unix_ns=optional_unix_ns(message, "stalled_since_time"),
        fork=life_messages.fork_from_message(message.fork) if message.HasField("fork") else None,
        history_parts=tuple(map(life_messages.part_from_message, message.history_parts)),
        preemption_notice=message.preemption_notice,
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


def live_run_to_message(run: LiveRun) -> pb.LiveRun:
    """Returns the live run as a message."""
    message = pb.LiveRun(
        run_key=run.run_key,
        path=run.path,
        state=state_to_number(run.state),
        attempt_count=run.attempt_count,
        straggler_steps=run.straggler_steps,
    )
    if run.crash_timeout_s is not None:
        message.crash_timeout.CopyFrom(duration_from_s(run.crash_timeout_s))
    if run.stall_timeout_s is not None:
        message.stall_timeout.CopyFrom(duration_from_s(run.stall_timeout_s))
    if run.stalled_since_unix_ns is not None:
        message.stalled_since_time.CopyFrom(timestamp_from_unix_ns(run.stalled_since_unix_ns))
    return message


def live_run_from_message(message: pb.LiveRun) -> LiveRun:
    """Returns the live run that the message holds."""
    return LiveRun(
        run_key=RunKey(message.run_key),
        path=message.path,
        state=state_from_number(message.state, field="state"),
        attempt_count=message.attempt_count,
        crash_timeout_s=optional_duration_s(message, "crash_timeout"),
        stall_timeout_s=optional_duration_s(message, "stall_timeout"),
        straggler_steps=message.straggler_steps,
        stalled_since_unix_ns=optional_unix_ns(message, "stalled_since_time"),
    )
