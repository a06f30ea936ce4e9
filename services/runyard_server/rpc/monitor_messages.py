"""Turns beats, their answers and what is known of live runs into messages of monitor.v1 and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_server.domain.beats import (
    Beat,
    HeartbeatAnswer,
    Liveness,
    MonitorReplica,
    RunWriters,
    WriterLiveness,
)
from runyard_server.domain.run import RunKey, StopStage, StopStatus
from runyard_server.rpc.message_values import (
    NS_PER_S,
    duration_from_s,
    optional_unix_ns,
    timestamp_from_unix_ns,
    unix_ns_from_timestamp,
)

_AGE_MS_MAX: Final = (1 << 32) - 1


def beats_from_request(request: pb.HeartbeatRequest) -> list[Beat]:
    """Returns the beats; one line a beat, for a message holds thousands."""
    make = Beat._make
    if request.is_forwarded:
        return [_passed_on_beat(beat) for beat in request.beats]
    return [
        make(
            (
                beat.run_key,
                beat.writer,
                beat.is_process_alive,
                beat.last_step if beat.HasField("last_step") else None,
                beat.records_written,
                beat.records_durable,
                0.0,
                "",
            )
        )
        for beat in request.beats
    ]


def request_to_pass_on(
    replica_id: str, beats: Sequence[Beat], *, has_more: bool
) -> pb.HeartbeatRequest:
    """Returns the message that passes beats on to another replica."""
    return pb.HeartbeatRequest(
        agent_id=replica_id,
        beats=[
            pb.Beat(
                run_key=beat.run_key,
                writer=beat.writer,
                is_process_alive=beat.is_process_alive,
                last_step=beat.last_step,
                records_written=beat.records_written,
                records_durable=beat.records_durable,
                age_ms=min(max(round(beat.age_s * 1000), 0), _AGE_MS_MAX),
                agent_id=beat.agent_id,
            )
            for beat in beats
        ],
        is_forwarded=True,
        has_more=has_more,
    )


def answer_to_message(answer: HeartbeatAnswer) -> pb.HeartbeatResponse:
    """Returns the answer as a message."""
    return pb.HeartbeatResponse(
        next_beat=duration_from_s(answer.next_beat_s),
        unknown_run_keys=answer.unknown_run_keys,
        stop_orders=[_stop_order(run_key, stop) for run_key, stop in answer.stop_orders],
        refused_run_keys=answer.refused_run_keys,
    )


def answer_from_message(message: pb.HeartbeatResponse) -> HeartbeatAnswer:
    """Returns the answer that the message holds."""
    return HeartbeatAnswer(
        next_beat_s=message.next_beat.ToNanoseconds() / NS_PER_S,
        unknown_run_keys=tuple(RunKey(key) for key in message.unknown_run_keys),
        stop_orders=tuple(
            (RunKey(order.run_key), _stop_status(order)) for order in message.stop_orders
        ),
        refused_run_keys=tuple(RunKey(key) for key in message.refused_run_keys),
    )


def liveness_to_message(item: Liveness) -> pb.Liveness:
    """Returns what is known of a run as a message."""
    message = pb.Liveness(
        run_path=item.run_path,
        crash_timeout=duration_from_s(item.crash_timeout_s),
        records_written=item.records_written,
        records_durable=item.records_durable,
        last_step=item.last_step,
        writers_beating=item.writers_beating,
        writers_silent=item.writers_silent,
        straggler_count=item.straggler_count,
    )
    for moment, unix_ns in (
        (message.last_beat_time, item.last_beat_unix_ns),
        (message.progress_time, item.progress_unix_ns),
        (message.stalled_since_time, item.stalled_since_unix_ns),
    ):
        if unix_ns is not None:
            moment.CopyFrom(timestamp_from_unix_ns(unix_ns))
    return message


def liveness_from_message(message: pb.Liveness) -> Liveness:
    """Returns what is known of a run, as the message says."""
    return Liveness(
        run_path=message.run_path,
        crash_timeout_s=message.crash_timeout.ToNanoseconds() / NS_PER_S,
        last_beat_unix_ns=optional_unix_ns(message, "last_beat_time"),
        records_written=message.records_written,
        records_durable=message.records_durable,
        last_step=message.last_step if message.HasField("last_step") else None,
        progress_unix_ns=optional_unix_ns(message, "progress_time"),
        stalled_since_unix_ns=optional_unix_ns(message, "stalled_since_time"),
        writers_beating=message.writers_beating,
        writers_silent=message.writers_silent,
        straggler_count=message.straggler_count,
    )


def writers_to_message(writers: RunWriters) -> pb.ListWriterLivenessResponse:
    """Returns the writers of a run as a message."""
    message = pb.ListWriterLivenessResponse(
        median_step=writers.median_step, straggler_steps=writers.straggler_steps
    )
    for writer in writers.writers:
        entry = message.writers.add(
            writer=writer.writer,
            last_step=writer.last_step,
            records_written=writer.records_written,
            records_durable=writer.records_durable,
            is_straggler=writer.is_straggler,
            is_silent=writer.is_silent,
            is_process_alive=writer.is_process_alive,
            agent_id=writer.agent_id,
        )
        if writer.last_beat_unix_ns is not None:
            entry.last_beat_time.CopyFrom(timestamp_from_unix_ns(writer.last_beat_unix_ns))
    return message


def writers_from_message(message: pb.ListWriterLivenessResponse) -> RunWriters:
    """Returns the writers of a run that the message holds."""
    return RunWriters(
        writers=tuple(
            WriterLiveness(
                writer=entry.writer,
                last_beat_unix_ns=optional_unix_ns(entry, "last_beat_time"),
                last_step=entry.last_step if entry.HasField("last_step") else None,
                records_written=entry.records_written,
                records_durable=entry.records_durable,
                is_straggler=entry.is_straggler,
                is_silent=entry.is_silent,
                is_process_alive=entry.is_process_alive,
                agent_id=entry.agent_id,
            )
            for entry in message.writers
        ),
        median_step=message.median_step if message.HasField("median_step") else None,
        straggler_steps=message.straggler_steps,
    )


def replicas_from_message(
    message: metadata_pb2.RenewMonitorReplicaResponse,
) -> tuple[MonitorReplica, ...]:
    """Returns the replicas that the message holds."""
    return tuple(MonitorReplica(one.replica_id, one.address) for one in message.replicas)


def open_writers(message: metadata_pb2.ListRunWritersResponse) -> set[int]:
    """Returns the writers that have not ended and that no later process of their label replaced."""
    latest: dict[str, int] = {}
    for one in message.writers:
        latest[one.label] = max(latest.get(one.label, 0), one.writer)
    return {
        one.writer
        for one in message.writers
        if not one.HasField("end_time")
        and one.state == metadata_pb2.RUN_STATE_RUNNING
        and latest[one.label] == one.writer
    }


def _passed_on_beat(beat: pb.Beat) -> Beat:
    return Beat(
        run_key=RunKey(beat.run_key),
        writer=beat.writer,
        is_process_alive=beat.is_process_alive,
        last_step=beat.last_step if beat.HasField("last_step") else None,
        records_written=beat.records_written,
        records_durable=beat.records_durable,
        age_s=beat.age_ms / 1000,
        agent_id=beat.agent_id,
    )


def _stop_order(run_key: RunKey, stop: StopStatus) -> pb.StopOrder:
    return pb.StopOrder(
        run_key=run_key,
        requested_by=stop.requested_by,
        grace=duration_from_s(stop.grace_s),
        may_kill=stop.may_kill,
        request_time=timestamp_from_unix_ns(stop.request_time_unix_ns),
        reason=stop.reason,
    )


def _stop_status(order: pb.StopOrder) -> StopStatus:
    return StopStatus(
        stage=StopStage.REQUESTED,
        requested_by=order.requested_by,
        reason=order.reason,
        request_time_unix_ns=unix_ns_from_timestamp(order.request_time),
        grace_s=order.grace.ToNanoseconds() / NS_PER_S,
        may_kill=order.may_kill,
    )
