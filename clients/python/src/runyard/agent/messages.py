"""Turns the agent's words into protobuf messages and back: the only place of the agent that knows the stubs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from runyard import journal_format as form
from runyard.agent.media_messages import set_media_value
from runyard.agent.ports import (
    Batch,
    Beat,
    BeatAnswer,
    Change,
    Ending,
    FileDigest,
    Rejection,
    StartedRun,
    StopOrder,
    UploadPlan,
)
from runyard.errors import Error, error_of
from runyard_protos.metadata.v1 import metadata_pb2

if TYPE_CHECKING:
    from runyard.agent.columns import Event, RowTable
    from runyard_protos.ingest.v1 import ingest_pb2

METADATA = "/runyard.metadata.v1.MetadataService/"
INGEST = "/runyard.ingest.v1.IngestService/"
MONITOR = "/runyard.monitor.v1.MonitorService/"
QUERY = "/runyard.query.v1.QueryService/"
FILES = "/runyard.files.v1.FilesService/"
EVIDENCE_BYTES_MAX = 16 << 10
# Tags of points.v1.PointTable's packed columns: field number and wire type 2.
_STEPS, _TIMES, _SEQUENCES, _VALUES = b"\x12", b"\x1a", b"\x22", b"\x2a"
_RESUME_MODES = {
    "": metadata_pb2.RESUME_MODE_UNSPECIFIED,
    "allow": metadata_pb2.RESUME_MODE_ALLOW,
    "must": metadata_pb2.RESUME_MODE_MUST,
    "never": metadata_pb2.RESUME_MODE_NEVER,
}


def start_run_request(start: Mapping[str, Any]) -> bytes:
    """Returns the StartRunRequest of a START record."""
    host = metadata_pb2.Host()
    _fill(host, start.get("host") or {})
    config = start.get("config") or {}
    request = metadata_pb2.StartRunRequest(
        request_id=str(start.get("request_id") or ""),
        entity=str(start.get("entity") or ""),
        project=str(start.get("project") or ""),
        run_id=str(start.get("run_id") or ""),
        display_name=str(start.get("display_name") or ""),
        resume=_RESUME_MODES.get(
            str(start.get("resume") or ""), metadata_pb2.RESUME_MODE_UNSPECIFIED
        ),
        config_json=_dumps(config) if config else "",
        notes=str(start.get("notes") or ""),
        tags=[str(tag) for tag in start.get("tags") or ()],
        group=str(start.get("group") or ""),
        job_type=str(start.get("job_type") or ""),
        host=host,
        writer_label=str(start.get("writer_label") or ""),
    )
    request.start_time.FromNanoseconds(int(start.get("start_time_unix_ns") or 0))
    _fill(request.identity, start.get("identity") or {})
    if start.get("rewind_to_step") is not None:
        request.rewind_to_step = int(start["rewind_to_step"])
    fork = start.get("fork")
    if fork:
        request.fork.run_path = str(fork.get("run_path") or "")
        request.fork.step = int(fork.get("step") or 0)
    return request.SerializeToString()


def started_run(reply: bytes) -> StartedRun:
    """Returns what a StartRunResponse says."""
    message = metadata_pb2.StartRunResponse.FromString(reply)
    return StartedRun(
        path=message.run.path,
        run_key=message.run.run_key,
        writer=message.writer,
        attempt=message.attempt,
        display_name=message.run.display_name,
        is_resumed=message.is_resumed,
        attempt_first_writer=message.attempt_first_writer,
        config_json=message.run.config_json,
    )


def receipt_request(run_path: str, *, writer_max: int) -> bytes:
    """Returns the GetReceiptRequest of a run, its last step being that of the writers up to `writer_max` (0: all)."""
    from runyard_protos.query.v1 import query_pb2

    request = query_pb2.GetReceiptRequest(run_path=run_path, writer_max=writer_max)
    return request.SerializeToString()


def last_step(reply: bytes) -> int | None:
    """Returns the last step that a GetReceiptResponse tells of."""
    from runyard_protos.query.v1 import query_pb2

    message = query_pb2.GetReceiptResponse.FromString(reply)
    return message.last_step if message.HasField("last_step") else None


def summary_request(run_path: str) -> bytes:
    """Returns the GetSummaryRequest of a run."""
    from runyard_protos.query.v1 import query_pb2

    return query_pb2.GetSummaryRequest(run_path=run_path).SerializeToString()


def summary(reply: bytes) -> str:
    """Returns the summary that a GetSummaryResponse holds, as JSON."""
    from runyard_protos.query.v1 import query_pb2

    return query_pb2.GetSummaryResponse.FromString(reply).summary_json


def write_batch_request(batch: Batch) -> bytes:
    """Returns the WriteBatchRequest; columns go in as bytes, so that no point becomes a Python object."""
    from runyard_protos.ingest.v1 import ingest_pb2

    request = ingest_pb2.WriteBatchRequest(
        run_key=batch.run_key,
        writer=batch.writer,
        first_sequence=batch.first_sequence,
        last_sequence=batch.last_sequence,
        summary_changes=[
            ingest_pb2.SummaryChange(sequence=c.sequence, key=c.key, value_json=c.value_json)
            for c in batch.summary_changes
        ],
    )
    if batch.journal != form.RUN_JOURNAL:
        request.journal = ingest_pb2.Journal.Value(f"JOURNAL_{batch.journal.upper()}")
    request.console_blocks.extend(_console_block(event) for event in batch.console)
    for event in batch.media:
        set_media_value(request.media_values.add(), event)
    indexes: dict[str, int] = {}
    for table in batch.tables:
        if not indexes:
            indexes = {name: index for index, name in enumerate(table.names)}
        positions = [indexes.setdefault(name, len(indexes)) for name in table.names]
        message = request.tables.add(metric_indexes=positions)
        message.MergeFromString(_columns(table))
    request.metric_names.extend(indexes)
    return request.SerializeToString()


def _console_block(event: Event) -> ingest_pb2.ConsoleBlock:
    from runyard_protos.ingest.v1 import ingest_pb2

    first_line, time_unix_ns, stream, line_count = form.CONSOLE_HEAD.unpack_from(event.payload)
    return ingest_pb2.ConsoleBlock(
        sequence=event.sequence,
        first_line=first_line,
        line_count=line_count,
        stream=stream,
        time_unix_ns=time_unix_ns,
        text=event.payload[form.CONSOLE_HEAD.size :].decode("utf-8", "replace"),
    )


def rejections(reply: bytes) -> list[Rejection]:
    """Returns the series that a WriteBatchResponse refuses."""
    from runyard_protos.errors.v1 import errors_pb2
    from runyard_protos.ingest.v1 import ingest_pb2

    message = ingest_pb2.WriteBatchResponse.FromString(reply)
    names = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number
    found = []
    for entry in message.rejections:
        value = names.get(entry.reason)
        reason = value.name[len("ERROR_REASON_") :] if value is not None else str(entry.reason)
        found.append(Rejection(entry.metric, reason, entry.message, entry.points))
    return found


def apply_changes_request(run_key: int, writer: int, changes: Sequence[Change]) -> bytes:
    """Returns the ApplyRunChangesRequest."""
    request = metadata_pb2.ApplyRunChangesRequest(run_key=run_key, writer=writer)
    for change in changes:
        content = change.content
        message = request.changes.add(sequence=change.sequence)
        if content.get("config_set"):
            message.config_set_json = _dumps(content["config_set"])
        message.config_removed_keys.extend(str(key) for key in content.get("config_removed") or ())
        if content.get("metric_definition"):
            _fill(message.metric_definition, content["metric_definition"])
        if content.get("display_name") is not None:
            message.display_name = str(content["display_name"])
        if content.get("notes") is not None:
            message.notes = str(content["notes"])
        if content.get("tags") is not None:
            message.tags.SetInParent()
            message.tags.tags.extend(str(tag) for tag in content["tags"])
        if isinstance(content.get("alert"), Mapping):
            _set_alert(message.alert, content["alert"])
        if content.get("preemption_notice") is not None:
            message.preemption_notice = str(content["preemption_notice"])
        if content.get("host_facts"):
            message.host_facts_json = _dumps(content["host_facts"])
    return request.SerializeToString()


def finish_run_request(run_key: int, writer: int, ending: Ending) -> bytes:
    """Returns the FinishRunRequest."""
    causes = dict(metadata_pb2.TransitionCause.items())
    cause = causes.get(
        f"TRANSITION_CAUSE_{ending.cause}", metadata_pb2.TRANSITION_CAUSE_UNSPECIFIED
    )
    evidence = ending.evidence.encode("utf-8", "replace")[:EVIDENCE_BYTES_MAX]
    request = metadata_pb2.FinishRunRequest(
        run_key=run_key,
        writer=writer,
        last_sequence=ending.last_sequence,
        exit_code=ending.exit_code,
        cause=cause,
        evidence=evidence.decode("utf-8", "ignore"),
        records_refused=ending.records_refused,
        is_correction=ending.is_correction,
    )
    if ending.exception is not None:
        _fill(request.exception, ending.exception)
    request.end_time.FromNanoseconds(ending.time_unix_ns)
    return request.SerializeToString()


def record_stop_stage_request(run_key: int, writer: int, stage: str, evidence: str) -> bytes:
    """Returns the RecordStopStageRequest."""
    request = metadata_pb2.RecordStopStageRequest(
        run_key=run_key,
        writer=writer,
        stage=metadata_pb2.StopStage.Value(f"STOP_STAGE_{stage}"),
        evidence=evidence,
    )
    return request.SerializeToString()


def heartbeat_request(agent_id: str, beats: Sequence[Beat]) -> bytes:
    """Returns the HeartbeatRequest."""
    from runyard_protos.monitor.v1 import monitor_pb2

    request = monitor_pb2.HeartbeatRequest(agent_id=agent_id)
    for beat in beats:
        message = request.beats.add(
            run_key=beat.run_key,
            writer=beat.writer,
            is_process_alive=beat.is_process_alive,
            records_written=beat.records_written,
            records_durable=beat.records_durable,
        )
        if beat.last_step is not None:
            message.last_step = beat.last_step
    return request.SerializeToString()


def beat_answer(reply: bytes) -> BeatAnswer:
    """Returns what a HeartbeatResponse says."""
    from runyard_protos.monitor.v1 import monitor_pb2

    message = monitor_pb2.HeartbeatResponse.FromString(reply)
    return BeatAnswer(
        next_beat_s=message.next_beat.ToNanoseconds() / 1e9,
        unknown_run_keys=list(message.unknown_run_keys),
        stop_orders=[
            StopOrder(
                run_key=order.run_key,
                requested_by=order.requested_by,
                reason=order.reason,
                grace_s=order.grace.ToNanoseconds() / 1e9,
                may_kill=order.may_kill,
                request_time_unix_ns=order.request_time.ToNanoseconds(),
            )
            for order in message.stop_orders
        ],
    )


def create_uploads_request(run_path: str, asks: Sequence[tuple[str, FileDigest]]) -> bytes:
    """Returns the CreateUploadsRequest."""
    from runyard_protos.files.v1 import files_pb2

    request = files_pb2.CreateUploadsRequest(run_path=run_path)
    for name, digest in asks:
        request.uploads.add(
            name=name,
            size_bytes=digest.size_bytes,
            sha256=digest.sha256,
            part_md5s=digest.part_md5s,
            part_bytes=digest.part_bytes,
        )
    return request.SerializeToString()


def upload_plans(reply: bytes) -> list[UploadPlan | Error]:
    """Returns what a CreateUploadsResponse says of each file."""
    from runyard_protos.files.v1 import files_pb2

    return [
        _refusal(answer.refusal) if answer.HasField("refusal") else _upload_plan(answer.plan)
        for answer in files_pb2.CreateUploadsResponse.FromString(reply).answers
    ]


def complete_uploads_request(arrivals: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Returns the CompleteUploadsRequest."""
    from runyard_protos.files.v1 import files_pb2

    request = files_pb2.CompleteUploadsRequest()
    for upload_id, part_etags in arrivals:
        request.uploads.add(upload_id=upload_id, part_etags=part_etags)
    return request.SerializeToString()


def completions(reply: bytes) -> list[Error | None]:
    """Returns what a CompleteUploadsResponse says of each upload: nothing, or why it is refused."""
    from runyard_protos.files.v1 import files_pb2

    return [
        _refusal(answer.refusal) if answer.HasField("refusal") else None
        for answer in files_pb2.CompleteUploadsResponse.FromString(reply).answers
    ]


def _upload_plan(plan: Any) -> UploadPlan:
    urls, etags = list(plan.part_urls), list(plan.part_etags)
    return UploadPlan(plan.upload_id, plan.is_present, plan.part_bytes, urls, etags)


def _refusal(refusal: Any) -> Error:
    return error_of(refusal.status, refusal.message, reason=refusal.reason)


def _set_alert(alert: metadata_pb2.Alert, fields: Mapping[str, Any]) -> None:
    alert.title, alert.text = str(fields.get("title") or ""), str(fields.get("text") or "")
    levels = dict(metadata_pb2.AlertLevel.items())
    alert.level = levels.get(
        f"ALERT_LEVEL_{fields.get('level')}", metadata_pb2.ALERT_LEVEL_UNSPECIFIED
    )
    wait_s = float(fields.get("wait_duration_s") or 0)
    if wait_s > 0:
        alert.wait_duration.FromNanoseconds(int(wait_s * 1e9))


def _columns(table: RowTable) -> bytes:
    """Returns the table's columns in wire form: packed fixed-width fields are little-endian, as the journal is."""
    parts: list[bytes] = []
    for tag, content in (
        (_STEPS, table.steps_bytes()),
        (_TIMES, table.times_bytes()),
        (_SEQUENCES, table.sequences_bytes()),
        (_VALUES, table.values_bytes()),
    ):
        parts.extend((tag, _varint(len(content)), content))
    return b"".join(parts)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _fill(message: Message, fields: Mapping[str, Any]) -> None:
    """Sets the message's fields that the mapping has; a value of another type is left out."""
    for field in message.DESCRIPTOR.fields:
        value = fields.get(field.name)
        if value is None:
            continue
        try:
            if isinstance(value, (list, tuple)):
                getattr(message, field.name).extend(value)
            else:
                setattr(message, field.name, value)
        except (TypeError, ValueError, AttributeError):
            continue
