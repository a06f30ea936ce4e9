"""Turns run documents, writers, events, attempts and projects into rows of the schema and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from runyard_server.domain.attempts import AttemptKind, RunAttempt
from runyard_server.domain.events import AlertLevel, RunEvent, RunEventKind
from runyard_server.domain.notifications import Notification, NotificationState
from runyard_server.domain.projects import Project
from runyard_server.domain.run import (
    Host,
    MetricDefinition,
    RunDocument,
    RunException,
    RunKey,
    RunState,
    RunTransition,
    TransitionCause,
)
from runyard_server.domain.writers import Writer, WriterEnd, WriterIdentity
from runyard_server.storage.life_json import life_to_json, with_life
from runyard_server.storage.settings_json import settings_from_json

Values = dict[str, Any]


def run_values(document: RunDocument) -> Values:
    """Returns the column values of a document; `delete_time_unix_ns` stands for `is_deleted`."""
    return {
        "run_key": document.run_key,
        "entity": document.entity,
        "project": document.project,
        "run_id": document.run_id,
        "display_name": document.display_name,
        "state": document.state.value,
        "config_json": document.config_json,
        "notes": document.notes,
        "tags_json": _dump(document.tags),
        "group_name": document.group,
        "job_type": document.job_type,
        "create_time_unix_ns": document.create_time_unix_ns,
        "start_time_unix_ns": document.start_time_unix_ns,
        "end_time_unix_ns": document.end_time_unix_ns,
        "heartbeat_time_unix_ns": document.heartbeat_time_unix_ns,
        "update_time_unix_ns": document.update_time_unix_ns,
        "exit_code": document.exit_code,
        "host_json": _dump(asdict(document.host)),
        "metric_definitions_json": _dump([asdict(d) for d in document.metric_definitions]),
        "attempt_count": document.attempt_count,
        "writer_count": document.writer_count,
        "delete_time_unix_ns": _delete_time(document),
        "version": document.version,
        "life_json": life_to_json(document),
        "stalled_since_unix_ns": document.stalled_since_unix_ns,
        "stop_stage": document.stop.stage.value if document.stop else None,
    }


def run_document(row: Row[Any]) -> RunDocument:
    """Returns the document of a row of `runs`."""
    document = RunDocument(
        run_key=RunKey(row.run_key),
        entity=row.entity,
        project=row.project,
        run_id=row.run_id,
        display_name=row.display_name,
        state=RunState(row.state),
        config_json=row.config_json,
        notes=row.notes,
        tags=tuple(json.loads(row.tags_json)),
        group=row.group_name,
        job_type=row.job_type,
        create_time_unix_ns=row.create_time_unix_ns,
        start_time_unix_ns=row.start_time_unix_ns,
        end_time_unix_ns=row.end_time_unix_ns,
        heartbeat_time_unix_ns=row.heartbeat_time_unix_ns,
        update_time_unix_ns=row.update_time_unix_ns,
        exit_code=row.exit_code,
        host=Host(**json.loads(row.host_json)),
        metric_definitions=tuple(
            MetricDefinition(**{**values, "summaries": tuple(values["summaries"])})
            for values in json.loads(row.metric_definitions_json)
        ),
        attempt_count=row.attempt_count,
        writer_count=row.writer_count,
        is_deleted=row.delete_time_unix_ns is not None,
        version=row.version,
    )
    return with_life(document, row.life_json)


def writer_values(writer: Writer) -> Values:
    """Returns the column values of a writer."""
    end = writer.end
    return {
        "run_key": writer.run_key,
        "writer": writer.writer,
        "request_id": writer.request_id,
        "label": writer.label,
        "attempt": writer.attempt,
        "is_resumed": writer.is_resumed,
        "start_time_unix_ns": writer.start_time_unix_ns,
        "applied_sequence": writer.applied_sequence,
        "is_counted": writer.is_counted,
        "end_state": end.state.value if end else None,
        "end_cause": end.cause.value if end else None,
        "end_evidence": end.evidence if end else None,
        "end_time_unix_ns": end.end_time_unix_ns if end else None,
        "exit_code": end.exit_code if end else None,
        "last_sequence": end.last_sequence if end else None,
        "identity_json": _dump(
            {**asdict(writer.identity), "hostname": writer.hostname, "pid": writer.pid}
        ),
        "exception_json": _dump(asdict(end.exception)) if end and end.exception else None,
        "records_refused": end.records_refused if end else None,
    }


def writer_of(row: Row[Any]) -> Writer:
    """Returns the writer of a row of `writers`."""
    end = None
    if row.end_state is not None:
        end = WriterEnd(
            state=RunState(row.end_state),
            cause=TransitionCause(row.end_cause),
            exit_code=row.exit_code,
            evidence=row.end_evidence,
            end_time_unix_ns=row.end_time_unix_ns,
            last_sequence=row.last_sequence,
            records_refused=row.records_refused or 0,
            exception=RunException(**json.loads(row.exception_json))
            if row.exception_json
            else None,
        )
    identity = json.loads(row.identity_json)
    hostname, pid = identity.pop("hostname", ""), identity.pop("pid", 0)
    if identity:
        identity["gpus"] = tuple(identity["gpus"])
    return Writer(
        run_key=RunKey(row.run_key),
        writer=row.writer,
        request_id=row.request_id,
        label=row.label,
        attempt=row.attempt,
        is_resumed=row.is_resumed,
        start_time_unix_ns=row.start_time_unix_ns,
        applied_sequence=row.applied_sequence,
        is_counted=row.is_counted,
        end=end,
        identity=WriterIdentity(**identity),
        hostname=hostname,
        pid=pid,
    )


def event_values(run_key: RunKey, event: RunEvent) -> Values:
    """Returns the column values of an event; the number is the database's."""
    transition = event.transition
    before = transition.from_state if transition else None
    return {
        "run_key": run_key,
        "kind": event.kind.value,
        "from_state": before.value if before else None,
        "to_state": transition.to_state.value if transition else None,
        "cause": transition.cause.value if transition else None,
        "evidence": event.evidence,
        "actor": event.actor,
        "record_time_unix_ns": event.record_time_unix_ns,
        "attempt": event.attempt,
        "writer": event.writer,
        "title": event.title,
        "level": event.level.value if event.level else None,
    }


def event_of(row: Row[Any]) -> RunEvent:
    """Returns the event of a row of `events`."""
    kind = RunEventKind(row.kind)
    transition = None
    if kind is RunEventKind.TRANSITION:
        transition = RunTransition(
            from_state=RunState(row.from_state) if row.from_state is not None else None,
            to_state=RunState(row.to_state),
            cause=TransitionCause(row.cause),
            evidence=row.evidence,
            actor=row.actor,
            record_time_unix_ns=row.record_time_unix_ns,
            attempt=row.attempt,
        )
    return RunEvent(
        kind=kind,
        evidence=row.evidence,
        actor=row.actor,
        record_time_unix_ns=row.record_time_unix_ns,
        attempt=row.attempt,
        writer=row.writer,
        title=row.title,
        level=AlertLevel(row.level) if row.level is not None else None,
        transition=transition,
        number=row.number,
    )


def attempt_values(run_key: RunKey, attempt: RunAttempt) -> Values:
    """Returns the column values of an attempt."""
    return {
        "run_key": run_key,
        "attempt": attempt.attempt,
        "kind": attempt.kind.value,
        "start_time_unix_ns": attempt.start_time_unix_ns,
        "first_writer": attempt.first_writer,
        "hostname": attempt.hostname,
        "rewound_to_step": attempt.rewound_to_step,
        "state": attempt.state.value,
        "end_time_unix_ns": attempt.end_time_unix_ns,
    }


def attempt_of(row: Row[Any]) -> RunAttempt:
    """Returns the attempt of a row of `attempts`."""
    return RunAttempt(
        attempt=row.attempt,
        kind=AttemptKind(row.kind),
        start_time_unix_ns=row.start_time_unix_ns,
        first_writer=row.first_writer,
        hostname=row.hostname,
        rewound_to_step=row.rewound_to_step,
        state=RunState(row.state),
        end_time_unix_ns=row.end_time_unix_ns,
    )


def project_of(row: Row[Any]) -> Project:
    """Returns the project of a row of `projects`."""
    return Project(
        entity=row.entity,
        name=row.name,
        description=row.description,
        create_time_unix_ns=row.create_time_unix_ns,
        activity_time_unix_ns=row.activity_time_unix_ns,
        run_count=row.run_count,
        live_run_count=row.live_run_count,
        settings=settings_from_json(row.settings_json),
    )


def notification_values(notification: Notification) -> Values:
    """Returns the column values of a notification; the number is the database's."""
    return {
        "entity": notification.entity,
        "project": notification.project,
        "run_key": notification.run_key,
        "event_number": notification.event_number,
        "event_name": notification.event_name,
        "target_name": notification.target_name,
        "title": notification.title,
        "state": notification.state.value,
        "try_count": notification.try_count,
        "last_error": notification.last_error,
        "create_time_unix_ns": notification.create_time_unix_ns,
        "next_try_time_unix_ns": notification.next_try_time_unix_ns,
        "lease_end_unix_ns": 0,
    }


def notification_of(row: Row[Any]) -> Notification:
    """Returns the notification of a row of `notifications`."""
    return Notification(
        entity=row.entity,
        project=row.project,
        run_key=RunKey(row.run_key),
        event_number=row.event_number,
        event_name=row.event_name,
        target_name=row.target_name,
        create_time_unix_ns=row.create_time_unix_ns,
        state=NotificationState(row.state),
        next_try_time_unix_ns=row.next_try_time_unix_ns,
        title=row.title,
        try_count=row.try_count,
        last_error=row.last_error,
        number=row.number,
    )


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _delete_time(document: RunDocument) -> int | None:
    if not document.is_deleted:
        return None
    return document.delete_time_unix_ns or document.update_time_unix_ns
