"""Decisions on runs: finding, changing and saving them; each is an action on one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from runyard_server.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.extended_json import merge_config, read_object, write_object
from runyard_server.domain.run import (
    LIVE_STATES,
    Host,
    RunDocument,
    RunKey,
    RunState,
    RunTransition,
    TransitionCause,
    is_transition_allowed,
    split_run_path,
)
from runyard_server.domain.writers import (
    Writer,
)
from runyard_server.metadata import projects
from runyard_server.metadata.notices import queue_notifications
from runyard_server.metadata.requests import (
    RunChange,
    RunEdit,
    RunLimits,
    check_change,
    check_edit,
    check_host,
)
from runyard_server.storage.ports.run_store import RunTransaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A new document and, where its state changed, how."""

    document: RunDocument
    transition: RunTransition | None = None


def apply_changes(
    tx: RunTransaction,
    run_key: RunKey,
    writer: int,
    changes: Sequence[RunChange],
    *,
    now_unix_ns: int,
    limits: RunLimits,
) -> int:
    """Applies the changes that were not applied before and returns the highest applied sequence of the writer."""
    if len(changes) > limits.change_count_max:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"changes holds {len(changes)} changes, at most {limits.change_count_max} fit one request",
            metadata={"field": "changes", "value": len(changes), "limit": limits.change_count_max},
        )
    _check_ascending(changes)
    document = find_run(tx, run_key, will_change=True)
    author = find_writer(tx, document, writer)
    fresh = [change for change in changes if change.sequence > author.applied_sequence]
    if not fresh:
        return author.applied_sequence
    changed = document
    for change in fresh:
        changed = _apply_change(changed, check_change(change, limits), limits)
    config_json = _apply_config_changes(document.config_json, fresh, limits)
    changed = replace(changed, config_json=config_json)
    if any(change.host_facts_json for change in fresh) and _tells_of_host(tx, document, author):
        changed = replace(changed, host=_with_host_facts(document.host, fresh, limits))
    tx.save_writer(replace(author, applied_sequence=fresh[-1].sequence))
    saved = save(tx, document, Change(changed), now_unix_ns=now_unix_ns)
    for change in fresh:
        for event in _events_of(change, saved, author, now_unix_ns=now_unix_ns):
            record_event(tx, saved, event)
    return fresh[-1].sequence


def edit_run(
    tx: RunTransaction, path: str, edit: RunEdit, *, now_unix_ns: int, limits: RunLimits
) -> RunDocument:
    """Changes what a user may change."""
    edit = check_edit(edit, limits)
    document = find_run_by_path(tx, path, will_change=True)
    config_json = document.config_json
    if edit.config_json is not None:
        config_json = config_text(read_config(edit.config_json, limits), limits)
    changed = replace(
        document,
        display_name=either(edit.display_name, document.display_name),
        notes=either(edit.notes, document.notes),
        tags=document.tags if edit.tags is None else edit.tags,
        group=either(edit.group, document.group),
        job_type=either(edit.job_type, document.job_type),
        config_json=config_json,
    )
    return save(tx, document, Change(changed), now_unix_ns=now_unix_ns)


def find_run(tx: RunTransaction, run_key: RunKey, *, will_change: bool = False) -> RunDocument:
    """Returns the run of that key; raises NotFound RUN_NOT_FOUND or FailedPrecondition RUN_DELETED."""
    document = tx.find_run_by_key(run_key, will_change=will_change)
    if document is None:
        raise run_not_found(f"with key {run_key}", str(run_key))
    return check_not_deleted(document)


def with_heartbeat(tx: RunTransaction, document: RunDocument) -> RunDocument:
    """Returns the document with the last sign of life that was recorded apart from it, if that is later."""
    recorded = tx.find_heartbeat(document.run_key)
    if recorded is None or recorded <= (document.heartbeat_time_unix_ns or 0):
        return document
    return replace(document, heartbeat_time_unix_ns=recorded)


def find_run_by_path(tx: RunTransaction, path: str, *, will_change: bool = False) -> RunDocument:
    """Returns the run of that path; raises as find_run, and InvalidArgument for what is no path."""
    entity, project, run_id = split_run_path(path)
    document = tx.find_run(entity, project, run_id, will_change=will_change)
    if document is None:
        raise run_not_found(path[:512], path[:512])
    return check_not_deleted(document)


def check_not_deleted(document: RunDocument) -> RunDocument:
    """Returns the document unless its run was deleted."""
    if document.is_deleted:
        raise FailedPrecondition(
            "RUN_DELETED",
            f"run {document.path} was deleted; its id can never be used again, choose another",
            metadata={"run": document.path},
        )
    return document


def read_config(text: str, limits: RunLimits) -> dict[str, object]:
    """Returns the config that the text says; raises InvalidArgument if it is none."""
    return read_object(text, field="config_json", bytes_max=limits.config_bytes_max)


def save(
    tx: RunTransaction, before: RunDocument, change: Change, *, now_unix_ns: int
) -> RunDocument:
    """Stores the document under its next version, with its transition and the project's counts, and returns it.

    A change that changes nothing is not stored.
    """
    if change.document == before and change.transition is None:
        return before
    after = replace(change.document, version=before.version + 1, update_time_unix_ns=now_unix_ns)
    tx.save_run(after)
    if change.transition is not None:
        record_event(tx, after, RunEvent.of(change.transition))
    if after.state is not before.state or after.end_time_unix_ns != before.end_time_unix_ns:
        _note_attempt(tx, after)
    projects.record_activity(
        tx,
        after.entity,
        after.project,
        live_run_count_change=(after.state in LIVE_STATES) - (before.state in LIVE_STATES),
        now_unix_ns=now_unix_ns,
    )
    return after


def record_event(tx: RunTransaction, document: RunDocument, event: RunEvent) -> int:
    """Adds the event to the run's history, has those told who want to know, and returns its number.

    Every event goes through here.
    """
    number = tx.append_event(document.run_key, event)
    queue_notifications(tx, document, event, number)
    return number


def _note_attempt(tx: RunTransaction, document: RunDocument) -> None:
    """Keeps with the attempt how the run stood when it was over."""
    attempt = tx.find_attempt(document.run_key, document.attempt_count)
    if attempt is not None:
        tx.save_attempt(
            document.run_key,
            replace(attempt, state=document.state, end_time_unix_ns=document.end_time_unix_ns),
        )


def _apply_change(document: RunDocument, change: RunChange, limits: RunLimits) -> RunDocument:
    """Returns the document with all of the change but its config keys."""
    definitions = document.metric_definitions
    if change.metric_definition is not None:
        by_name = {definition.name: definition for definition in definitions}
        by_name[change.metric_definition.name] = change.metric_definition
        if len(by_name) > limits.metric_definition_count_max:
            limit = limits.metric_definition_count_max
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"run {document.path} would have {len(by_name)} metric definitions, at most {limit} are allowed; "
                "define a glob instead",
                metadata={"field": "metric_definition", "value": len(by_name), "limit": limit},
            )
        definitions = tuple(by_name.values())
    return replace(
        document,
        metric_definitions=definitions,
        display_name=either(change.display_name, document.display_name),
        notes=either(change.notes, document.notes),
        tags=document.tags if change.tags is None else change.tags,
        preemption_notice=either(change.preemption_notice, document.preemption_notice),
    )


def _events_of(
    change: RunChange, document: RunDocument, author: Writer, *, now_unix_ns: int
) -> list[RunEvent]:
    """Returns what the change tells of that belongs into the run's history."""
    events: list[RunEvent] = []
    attempt = author.attempt
    if change.alert is not None:
        events.append(
            RunEvent(
                RunEventKind.ALERT,
                change.alert.text,
                who(author),
                now_unix_ns,
                attempt,
                writer=author.writer,
                title=change.alert.title,
                level=change.alert.level,
                wait_s=change.alert.wait_s,
            )
        )
    if change.preemption_notice:
        events.append(
            RunEvent(
                RunEventKind.PREEMPTION_NOTICED,
                change.preemption_notice,
                who(author),
                now_unix_ns,
                attempt,
                writer=author.writer,
            )
        )
    return events


def _apply_config_changes(config_json: str, changes: Sequence[RunChange], limits: RunLimits) -> str:
    """Returns the config after all changes; it is read and written once."""
    wanted = [change for change in changes if change.config_set_json or change.config_removed_keys]
    if not wanted:
        return config_json
    config = read_config(config_json, limits)
    for change in wanted:
        added = read_object(
            change.config_set_json, field="config_set_json", bytes_max=limits.config_bytes_max
        )
        config = merge_config(config, changes=added, removed_keys=change.config_removed_keys)
    return config_text(config, limits)


def _tells_of_host(tx: RunTransaction, document: RunDocument, author: Writer) -> bool:
    """Returns whether the document's host is the writer's to tell of: its attempt is the current one, which it began or leads."""
    if author.attempt != document.attempt_count:
        return False
    attempt = tx.find_attempt(document.run_key, author.attempt)
    is_first = attempt is None or attempt.first_writer == author.writer
    return is_first or author.identity.rank == 0


def _with_host_facts(host: Host, changes: Sequence[RunChange], limits: RunLimits) -> Host:
    """Returns the host with the facts of all changes; raises InvalidArgument if they are no object, or too large."""
    bytes_max = limits.host_field_bytes_max
    facts = read_object(host.extra_json, field="host.extra_json", bytes_max=bytes_max)
    for change in changes:
        added = read_object(change.host_facts_json, field="host_facts_json", bytes_max=bytes_max)
        facts = merge_config(facts, changes=added, removed_keys=())
    told = replace(host, extra_json=write_object(facts))
    check_host(told, limits)
    return told


def make_transition(
    before: RunState | None,
    after: RunDocument,
    cause: TransitionCause,
    *,
    actor: str,
    now_unix_ns: int,
    evidence: str = "",
) -> RunTransition:
    """Returns the step from a state to that of the document; asserts that the state machine has it."""
    assert is_transition_allowed(before, after.state, cause), (before, after.state, cause)
    return RunTransition(
        from_state=before,
        to_state=after.state,
        cause=cause,
        evidence=evidence,
        actor=actor,
        record_time_unix_ns=now_unix_ns,
        attempt=after.attempt_count,
    )


def _check_ascending(changes: Sequence[RunChange]) -> None:
    last = 0
    for change in changes:
        if change.sequence <= last:
            raise InvalidArgument(
                "FIELD_INVALID",
                f"changes.sequence {change.sequence} follows {last}; sequences rise from 1",
                metadata={"field": "changes.sequence", "value": change.sequence},
            )
        last = change.sequence


def find_writer(tx: RunTransaction, document: RunDocument, writer: int) -> Writer:
    """Returns the writer of that number; raises InvalidArgument if the run has none."""
    found = tx.find_writer(document.run_key, writer)
    if found is None:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"writer {writer} is not one of the {document.writer_count} of run {document.path}; call StartRun first",
            metadata={"field": "writer", "value": writer, "run": document.path},
        )
    return found


def who(writer: Writer) -> str:
    """Returns how a writer is named in the history of a run."""
    return f"writer {writer.writer} ({writer.label})"


def config_text(config: dict[str, object], limits: RunLimits) -> str:
    """Returns the config as JSON text; raises InvalidArgument if it is too large."""
    text = write_object(config)
    size_bytes = len(text.encode())
    if size_bytes > limits.config_bytes_max:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"config would have {size_bytes} bytes as JSON, at most {limits.config_bytes_max} are allowed; "
            "keep large values in a file of the run",
            metadata={"field": "config", "value": size_bytes, "limit": limits.config_bytes_max},
        )
    return text


def run_not_found(what: str, run: str) -> NotFound:
    """Returns the error for a run that does not exist."""
    return NotFound("RUN_NOT_FOUND", f"there is no run {what}", metadata={"run": run})


def either(value: T | None, default: T) -> T:
    """Returns the value, or the default if it is None."""
    return default if value is None else value
