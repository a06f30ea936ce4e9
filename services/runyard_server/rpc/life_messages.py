"""Turns what tells of a run's life (stops, exceptions, forks, writers, attempts, events) into messages and back."""

from __future__ import annotations

from typing import Final

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.attempts import AttemptKind, RunAttempt
from runyard_server.domain.events import AlertLevel, RunEvent, RunEventKind
from runyard_server.domain.run import (
    Cut,
    ForkPoint,
    HistoryPart,
    RunException,
    RunKey,
    RunState,
    StopStage,
    StopStatus,
)
from runyard_server.domain.writers import Writer, WriterEnd, WriterIdentity
from runyard_server.rpc.message_values import (
    NS_PER_S,
    cause_from_number,
    cause_to_number,
    duration_from_s,
    optional_timestamp,
    state_from_number,
    state_to_number,
    timestamp_from_unix_ns,
    transition_from_message,
    transition_to_message,
    unix_ns_from_timestamp,
    unknown_enum,
)

_EVENT_KINDS: Final = {
    kind: pb.RunEventKind.Value(f"RUN_EVENT_KIND_{kind.name}") for kind in RunEventKind
}
_EVENT_KIND_BY_NUMBER: Final = {number: kind for kind, number in _EVENT_KINDS.items()}
_LEVELS: Final = {level: pb.AlertLevel.Value(f"ALERT_LEVEL_{level.name}") for level in AlertLevel}
_LEVEL_BY_NUMBER: Final = {number: level for level, number in _LEVELS.items()}
_STAGES: Final = {stage: pb.StopStage.Value(f"STOP_STAGE_{stage.name}") for stage in StopStage}
_STAGE_BY_NUMBER: Final = {number: stage for stage, number in _STAGES.items()}
_ATTEMPT_KINDS: Final = {
    kind: pb.AttemptKind.Value(f"ATTEMPT_KIND_{kind.name}") for kind in AttemptKind
}


def exception_to_message(exception: RunException | None) -> pb.RunException | None:
    """Returns the exception as a message."""
    if exception is None:
        return None
    return pb.RunException(
        type=exception.type,
        message=exception.message,
        traceback=exception.traceback,
        writer_label=exception.writer_label,
    )


def exception_from_message(message: pb.RunException) -> RunException:
    """Returns the exception that the message holds."""
    return RunException(message.type, message.message, message.traceback, message.writer_label)


def stop_to_message(stop: StopStatus | None) -> pb.StopStatus | None:
    """Returns the stop as a message."""
    if stop is None:
        return None
    return pb.StopStatus(
        stage=_STAGES[stop.stage],
        requested_by=stop.requested_by,
        reason=stop.reason,
        request_time=timestamp_from_unix_ns(stop.request_time_unix_ns),
        acknowledge_time=optional_timestamp(stop.acknowledge_time_unix_ns),
        grace=duration_from_s(stop.grace_s),
        may_kill=stop.may_kill,
    )


def stop_from_message(message: pb.StopStatus) -> StopStatus:
    """Returns the stop that the message holds."""
    is_acknowledged = message.HasField("acknowledge_time")
    return StopStatus(
        stage=stage_from_number(message.stage, field="stop.stage"),
        requested_by=message.requested_by,
        reason=message.reason,
        request_time_unix_ns=unix_ns_from_timestamp(message.request_time),
        grace_s=message.grace.ToNanoseconds() / NS_PER_S,
        may_kill=message.may_kill,
        acknowledge_time_unix_ns=unix_ns_from_timestamp(message.acknowledge_time)
        if is_acknowledged
        else None,
    )


def fork_to_message(fork: ForkPoint | None) -> pb.ForkPoint | None:
    """Returns the fork point as a message."""
    if fork is None:
        return None
    return pb.ForkPoint(run_path=fork.run_path, run_key=fork.run_key, step=fork.step)


def fork_from_message(message: pb.ForkPoint) -> ForkPoint:
    """Returns the fork point that the message holds."""
    return ForkPoint(message.run_path, RunKey(message.run_key), message.step)


def part_to_message(part: HistoryPart) -> pb.HistoryPart:
    """Returns the part of a history as a message."""
    return pb.HistoryPart(
        run_key=part.run_key,
        last_step=part.last_step,
        writer_max=part.writer_max,
        cuts=[pb.Cut(writer_max=c.writer_max, last_step=c.last_step) for c in part.cuts],
    )


def part_from_message(message: pb.HistoryPart) -> HistoryPart:
    """Returns the part of a history that the message holds."""
    return HistoryPart(
        run_key=RunKey(message.run_key),
        last_step=message.last_step if message.HasField("last_step") else None,
        writer_max=message.writer_max,
        cuts=tuple(Cut(c.writer_max, c.last_step) for c in message.cuts),
    )


def identity_to_message(identity: WriterIdentity) -> pb.WriterIdentity:
    """Returns what a writer is as a message."""
    return pb.WriterIdentity(
        rank=identity.rank,
        local_rank=identity.local_rank,
        world_size=identity.world_size,
        node=identity.node,
        gpus=identity.gpus,
        source=identity.source,
        is_primary=identity.is_primary,
        launch=identity.launch,
    )


def identity_from_message(message: pb.WriterIdentity) -> WriterIdentity:
    """Returns what a writer is, as the message says."""
    return WriterIdentity(
        rank=message.rank if message.HasField("rank") else None,
        local_rank=message.local_rank if message.HasField("local_rank") else None,
        world_size=message.world_size,
        node=message.node,
        gpus=tuple(message.gpus),
        source=message.source,
        is_primary=message.is_primary,
        launch=message.launch,
    )


def writer_to_message(writer: Writer) -> pb.RunWriter:
    """Returns the writer as a message."""
    end = writer.end
    message = pb.RunWriter(
        writer=writer.writer,
        label=writer.label,
        attempt=writer.attempt,
        identity=identity_to_message(writer.identity),
        start_time=timestamp_from_unix_ns(writer.start_time_unix_ns),
        state=state_to_number(end.state if end else RunState.RUNNING),
        is_current=writer.is_counted,
        hostname=writer.hostname,
        pid=writer.pid,
    )
    if end is not None:
        message.end_time.CopyFrom(timestamp_from_unix_ns(end.end_time_unix_ns))
        message.cause = cause_to_number(end.cause)
        message.evidence = end.evidence
        message.last_sequence = end.last_sequence
        message.records_refused = end.records_refused
        if end.exit_code is not None:
            message.exit_code = end.exit_code
    return message


def writer_from_message(run_key: RunKey, message: pb.RunWriter) -> Writer:
    """Returns the writer that the message holds; its request_id and applied_sequence are not on the wire."""
    end = None
    if message.HasField("end_time"):
        end = WriterEnd(
            state=state_from_number(message.state, field="state"),
            cause=cause_from_number(message.cause, field="cause"),
            exit_code=message.exit_code if message.HasField("exit_code") else None,
            evidence=message.evidence,
            end_time_unix_ns=unix_ns_from_timestamp(message.end_time),
            last_sequence=message.last_sequence,
            records_refused=message.records_refused,
        )
    return Writer(
        run_key=run_key,
        writer=message.writer,
        request_id="",
        label=message.label,
        attempt=message.attempt,
        is_resumed=False,
        start_time_unix_ns=unix_ns_from_timestamp(message.start_time),
        is_counted=message.is_current,
        end=end,
        identity=identity_from_message(message.identity),
        hostname=message.hostname,
        pid=message.pid,
    )


def attempt_to_message(attempt: RunAttempt) -> pb.RunAttempt:
    """Returns the attempt as a message."""
    return pb.RunAttempt(
        attempt=attempt.attempt,
        kind=_ATTEMPT_KINDS[attempt.kind],
        start_time=timestamp_from_unix_ns(attempt.start_time_unix_ns),
        end_time=optional_timestamp(attempt.end_time_unix_ns),
        state=state_to_number(attempt.state),
        rewound_to_step=attempt.rewound_to_step,
        first_writer=attempt.first_writer,
        hostname=attempt.hostname,
    )


def event_to_message(event: RunEvent) -> pb.RunEvent:
    """Returns the event as a message."""
    return pb.RunEvent(
        number=event.number,
        kind=_EVENT_KINDS[event.kind],
        record_time=timestamp_from_unix_ns(event.record_time_unix_ns),
        actor=event.actor,
        evidence=event.evidence,
        attempt=event.attempt,
        transition=transition_to_message(event.transition) if event.transition else None,
        title=event.title,
        level=_LEVELS[event.level] if event.level else pb.ALERT_LEVEL_UNSPECIFIED,
        writer=event.writer,
    )


def event_from_message(message: pb.RunEvent) -> RunEvent:
    """Returns the event that the message holds."""
    has_level = message.level != pb.ALERT_LEVEL_UNSPECIFIED
    return RunEvent(
        kind=kind_from_number(message.kind, field="kind"),
        evidence=message.evidence,
        actor=message.actor,
        record_time_unix_ns=unix_ns_from_timestamp(message.record_time),
        attempt=message.attempt,
        writer=message.writer,
        title=message.title,
        level=level_from_number(message.level, field="level") if has_level else None,
        transition=transition_from_message(message.transition)
        if message.HasField("transition")
        else None,
        number=message.number,
    )


def kind_to_number(kind: RunEventKind) -> pb.RunEventKind.ValueType:
    """Returns the enum value of a kind of event."""
    return _EVENT_KINDS[kind]


def kind_from_number(number: int, *, field: str) -> RunEventKind:
    """Returns the kind of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    kind = _EVENT_KIND_BY_NUMBER.get(pb.RunEventKind.ValueType(number))
    if kind is None:
        raise unknown_enum(field, number, "RunEventKind")
    return kind


def stage_to_number(stage: StopStage) -> pb.StopStage.ValueType:
    """Returns the enum value of a stage."""
    return _STAGES[stage]


def stage_from_number(number: int, *, field: str) -> StopStage:
    """Returns the stage of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    stage = _STAGE_BY_NUMBER.get(pb.StopStage.ValueType(number))
    if stage is None:
        raise unknown_enum(field, number, "StopStage")
    return stage


def level_from_number(number: int, *, field: str) -> AlertLevel:
    """Returns the level of an enum value, INFO for UNSPECIFIED; raises InvalidArgument for unknown ones."""
    if number == pb.ALERT_LEVEL_UNSPECIFIED:
        return AlertLevel.INFO
    level = _LEVEL_BY_NUMBER.get(pb.AlertLevel.ValueType(number))
    if level is None:
        raise unknown_enum(field, number, "AlertLevel")
    return level
