"""How runs end, and how they live on: ends of writers, corrections, verdicts, what watchers saw; actions on one transaction."""

from __future__ import annotations

from dataclasses import replace

from runyard_server.domain.errors import FailedPrecondition, InvalidArgument
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.projects import EndRule
from runyard_server.domain.run import (
    LIVE_STATES,
    RunDocument,
    RunState,
    StopStage,
    TransitionCause,
    end_state,
    is_transition_allowed,
)
from runyard_server.domain.writers import Writer, WriterEnd, run_outcome, silent_outcome
from runyard_server.metadata.requests import (
    FinishRun,
    RecordEvent,
    RecordTransition,
    RunLimits,
    check_finish,
    check_label,
    clamp_time,
    cut_evidence,
)
from runyard_server.metadata.runs import (
    Change,
    either,
    find_run,
    find_writer,
    make_transition,
    record_event,
    save,
    who,
    with_heartbeat,
)
from runyard_server.storage.ports.run_store import RunTransaction

_WRITER_LIFE = frozenset({RunEventKind.WRITER_LOST, RunEventKind.WRITER_RETURNED})
_SEEN_FROM_OUTSIDE = _WRITER_LIFE | {
    RunEventKind.STALLED,
    RunEventKind.PROGRESSED,
    RunEventKind.PREEMPTION_NOTICED,
}


def finish_run(
    tx: RunTransaction, ask: FinishRun, *, now_unix_ns: int, limits: RunLimits
) -> RunDocument:
    """Ends a writer's part in the run; the run ends when its last writer does."""
    ask = check_finish(ask, limits)
    document = find_run(tx, ask.run_key, will_change=True)
    writer = find_writer(tx, document, ask.writer)
    if ask.is_correction:
        return _correct(tx, document, writer, ask, now_unix_ns=now_unix_ns)
    if writer.end is not None:
        if ask.records_refused > writer.end.records_refused:
            end = replace(writer.end, records_refused=ask.records_refused)
            tx.save_writer(replace(writer, end=end))
        return document
    end = _end_of(document, writer, ask, now_unix_ns)
    tx.save_writer(replace(writer, end=end))
    return _follow_outcome(tx, document, writer, now_unix_ns=now_unix_ns)


def record_transition(
    tx: RunTransaction, ask: RecordTransition, *, now_unix_ns: int, limits: RunLimits
) -> tuple[bool, RunDocument]:
    """Changes the run's state for a cause outside its stream; returns whether it did, and the run.

    Passed over if the run is in another state than the caller believes, or at a later attempt.
    """
    check_label(ask.actor, field="actor", limits=limits)
    document = find_run(tx, ask.run_key, will_change=True)
    if document.state is not ask.from_state or document.attempt_count > ask.attempt_count:
        return False, document
    if document.state is ask.to_state:
        return False, document
    if not is_transition_allowed(document.state, ask.to_state, ask.cause):
        raise FailedPrecondition(
            "TRANSITION_NOT_ALLOWED",
            f"run {document.path} cannot go from {document.state.value} to {ask.to_state.value} "
            f"for the cause {ask.cause.value}",
            metadata={
                "run": document.path,
                "from": document.state.value,
                "to": ask.to_state.value,
                "cause": ask.cause.value,
            },
        )
    change = _decide_transition(tx, document, ask, now_unix_ns=now_unix_ns, limits=limits)
    if change is None:
        return False, document
    return True, save(tx, document, change, now_unix_ns=now_unix_ns)


def record_run_event(
    tx: RunTransaction, ask: RecordEvent, *, now_unix_ns: int, limits: RunLimits
) -> bool:
    """Records what a watcher saw of a live run; returns whether that was news."""
    check_label(ask.actor, field="actor", limits=limits)
    if ask.kind not in _SEEN_FROM_OUTSIDE:
        allowed = ", ".join(sorted(kind.name for kind in _SEEN_FROM_OUTSIDE))
        raise InvalidArgument(
            "FIELD_INVALID",
            f"kind {ask.kind.name} is recorded where it happens; one of {allowed} may be told",
            metadata={"field": "kind", "value": ask.kind.name},
        )
    document = find_run(tx, ask.run_key, will_change=True)
    if ask.writer:
        find_writer(tx, document, ask.writer)
    if document.attempt_count > ask.attempt_count or document.state not in LIVE_STATES:
        return False
    if not _is_news(tx, document, ask):
        return False
    changed = document
    if ask.kind is RunEventKind.STALLED:
        since = either(clamp_time(ask.since_unix_ns), now_unix_ns)
        changed = replace(document, stalled_since_unix_ns=since)
    elif ask.kind is RunEventKind.PROGRESSED:
        changed = replace(document, stalled_since_unix_ns=None)
    elif ask.kind is RunEventKind.PREEMPTION_NOTICED:
        changed = replace(document, preemption_notice=ask.evidence[: limits.name_length_max])
    saved = save(tx, document, Change(changed), now_unix_ns=now_unix_ns)
    event = RunEvent(
        ask.kind,
        cut_evidence(ask.evidence, limits),
        ask.actor,
        now_unix_ns,
        saved.attempt_count,
        writer=ask.writer,
    )
    record_event(tx, saved, event)
    return True


def _is_news(tx: RunTransaction, document: RunDocument, ask: RecordEvent) -> bool:
    match ask.kind:
        case RunEventKind.STALLED:
            return document.stalled_since_unix_ns is None
        case RunEventKind.PROGRESSED:
            return document.stalled_since_unix_ns is not None
        case RunEventKind.PREEMPTION_NOTICED:
            return document.preemption_notice != ask.evidence
    last = tx.find_last_event(document.run_key, _WRITER_LIFE, writer=ask.writer)
    if last is None or last.attempt != document.attempt_count:
        return ask.kind is RunEventKind.WRITER_LOST
    return last.kind is not ask.kind


def _end_of(document: RunDocument, writer: Writer, ask: FinishRun, now_unix_ns: int) -> WriterEnd:
    """Returns the end that the request tells of, seen with what else is known: a stop that was asked for, a preemption."""
    state, cause = end_state(ask.cause, ask.exit_code), ask.cause
    if writer.is_counted and _is_by_stop(document, state, cause):
        state, cause = RunState.KILLED, TransitionCause.USER_REQUEST
    elif writer.is_counted and _is_by_preemption(document, ask):
        state, cause = RunState.PREEMPTED, TransitionCause.PREEMPTED
    end_time = clamp_time(ask.end_time_unix_ns)
    exception = ask.exception
    return WriterEnd(
        state=state,
        cause=cause,
        exit_code=ask.exit_code,
        evidence=ask.evidence,
        end_time_unix_ns=now_unix_ns if end_time is None else end_time,
        last_sequence=ask.last_sequence,
        exception=None if exception is None else replace(exception, writer_label=writer.label),
        records_refused=ask.records_refused,
    )


def _is_by_stop(document: RunDocument, state: RunState, cause: TransitionCause) -> bool:
    """Returns whether a writer ended because a user asked: it knew of the stop, and did not fail by an exception."""
    stop = document.stop
    if stop is None or stop.stage < StopStage.ACKNOWLEDGED:
        return False
    if state is RunState.CRASHED:  # by our own SIGKILL, or by accident on the way
        return stop.stage >= StopStage.TERMINATED
    return cause is not TransitionCause.UNHANDLED_EXCEPTION


def _is_by_preemption(document: RunDocument, ask: FinishRun) -> bool:
    """Returns whether the machine was taken away: it said so before, and then the process was ended from outside."""
    if not document.preemption_notice:
        return False
    if ask.cause is TransitionCause.SIGNAL:
        return not ask.evidence.startswith("SIGINT")  # Ctrl-C is a person
    return ask.cause is TransitionCause.PROCESS_VANISHED


def _correct(
    tx: RunTransaction, document: RunDocument, writer: Writer, ask: FinishRun, *, now_unix_ns: int
) -> RunDocument:
    """Replaces the end that a process told of itself by what the system saw; finish() was the user's word, and stands."""
    told = writer.end
    if told is None or told.cause is not TransitionCause.PROCESS_EXITED or not writer.is_counted:
        return document
    end = _end_of(document, writer, ask, now_unix_ns)
    if (end.state, end.exit_code) == (told.state, told.exit_code):
        return document
    end = replace(end, last_sequence=told.last_sequence, records_refused=told.records_refused)
    tx.save_writer(replace(writer, end=end))
    return _follow_outcome(tx, document, writer, now_unix_ns=now_unix_ns)


def _end_rule(tx: RunTransaction, document: RunDocument) -> EndRule:
    project = tx.find_project(document.entity, document.project)
    return EndRule.LAST_WRITER if project is None else project.settings.end_rule


def _follow_outcome(
    tx: RunTransaction, document: RunDocument, writer: Writer, *, now_unix_ns: int
) -> RunDocument:
    """Ends the run if its writers' ends say so."""
    if not writer.is_counted:
        return document
    rule = _end_rule(tx, document)
    outcome = run_outcome(tx.list_counted_writers(document.run_key), rule)
    if outcome is None:
        return document
    if not is_transition_allowed(document.state, outcome.state, outcome.cause):
        return document
    change = _ended(document, outcome, actor=who(writer), now_unix_ns=now_unix_ns)
    return save(tx, document, change, now_unix_ns=now_unix_ns)


def _decide_transition(
    tx: RunTransaction,
    document: RunDocument,
    ask: RecordTransition,
    *,
    now_unix_ns: int,
    limits: RunLimits,
) -> Change | None:
    """Returns what the verdict or the user's wish makes of the run, or None to pass it over."""
    if ask.cause is TransitionCause.HEARTBEAT_LOST:
        rule = _end_rule(tx, document)
        outcome = silent_outcome(tx.list_counted_writers(document.run_key), rule)
        if outcome is not None and is_transition_allowed(
            document.state, outcome.state, outcome.cause
        ):
            return _ended(document, outcome, actor=ask.actor, now_unix_ns=now_unix_ns)
    if ask.cause is TransitionCause.HEARTBEAT_RETURNED and not _has_living_writer(tx, document):
        return None
    to_state, cause = ask.to_state, ask.cause
    if document.preemption_notice and cause is TransitionCause.HEARTBEAT_LOST:
        # It fell silent as it was announced.
        to_state, cause = RunState.PREEMPTED, TransitionCause.PREEMPTED
    changed = replace(document, state=to_state, heartbeat_time_unix_ns=now_unix_ns)
    if to_state in LIVE_STATES:
        changed = replace(changed, end_time_unix_ns=None, exit_code=None, exception=None)
    else:
        changed = replace(changed, stalled_since_unix_ns=None)
        end_time = clamp_time(ask.end_time_unix_ns)
        if end_time is None and ask.cause is TransitionCause.HEARTBEAT_LOST:
            # Nobody alive heard it beat (all was down): not the discovery, the last sign of life is its end.
            end_time = with_heartbeat(tx, document).heartbeat_time_unix_ns
        end_time = either(end_time, now_unix_ns)
        changed = replace(changed, end_time_unix_ns=end_time, heartbeat_time_unix_ns=end_time)
    evidence = cut_evidence(ask.evidence, limits)
    transition = make_transition(
        document.state,
        changed,
        cause,
        actor=ask.actor,
        now_unix_ns=now_unix_ns,
        evidence=evidence,
    )
    return Change(changed, transition)


def _ended(document: RunDocument, outcome: WriterEnd, *, actor: str, now_unix_ns: int) -> Change:
    changed = replace(
        document,
        state=outcome.state,
        end_time_unix_ns=outcome.end_time_unix_ns,
        exit_code=outcome.exit_code,
        exception=outcome.exception,
        stalled_since_unix_ns=None,
        heartbeat_time_unix_ns=now_unix_ns,
    )
    transition = make_transition(
        document.state,
        changed,
        outcome.cause,
        actor=actor,
        now_unix_ns=now_unix_ns,
        evidence=outcome.evidence,
    )
    return Change(changed, transition)


def _has_living_writer(tx: RunTransaction, document: RunDocument) -> bool:
    return any(writer.end is None for writer in tx.list_counted_writers(document.run_key))
