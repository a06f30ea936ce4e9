"""Stops of runs: asked for by a user, acknowledged by an agent, draining, forced; actions on one transaction.

```
 requested ──► acknowledged ──► draining ──► terminated ──► killed        and at any point the run may end: killed
 (a user)      (an agent has     (the script   (SIGTERM)      (SIGKILL, if
                it: stopping)     was told)                    allowed)
```
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runyard_server.domain.errors import FailedPrecondition, InvalidArgument
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.run import (
    LIVE_STATES,
    RunDocument,
    RunKey,
    RunState,
    StopStage,
    StopStatus,
    TransitionCause,
)
from runyard_server.metadata.requests import RunLimits, check_label, cut_evidence
from runyard_server.metadata.runs import (
    Change,
    find_run,
    find_run_by_path,
    find_writer,
    make_transition,
    record_event,
    save,
    who,
)
from runyard_server.storage.ports.run_store import RunTransaction

GRACE_DEFAULT_S = 60.0
GRACE_MAX_S = 86_400.0
REASON_LENGTH_MAX = 1_024
ANONYMOUS = "a user"

_EVENTS = {
    StopStage.ACKNOWLEDGED: RunEventKind.STOP_ACKNOWLEDGED,
    StopStage.DRAINING: RunEventKind.STOP_DRAINING,
    StopStage.TERMINATED: RunEventKind.STOP_FORCED,
    StopStage.KILLED: RunEventKind.STOP_FORCED,
}


@dataclass(frozen=True, slots=True)
class StopWish:
    """What a user asks for; see metadata.v1.RequestStopRequest."""

    path: str
    grace_s: float | None = None
    may_kill: bool = False
    reason: str = ""
    requested_by: str = ""


def request_stop(
    tx: RunTransaction, wish: StopWish, *, now_unix_ns: int, limits: RunLimits
) -> RunDocument:
    """Notes that a user wants the run stopped; a stop that is under way goes on, with the new wishes."""
    grace_s = GRACE_DEFAULT_S if wish.grace_s is None else wish.grace_s
    _check(wish, grace_s, limits)
    document = find_run_by_path(tx, wish.path, will_change=True)
    if document.state not in LIVE_STATES:
        raise FailedPrecondition(
            "RUN_NOT_LIVE",
            f"run {document.path} is {document.state.value}: there is nothing to stop",
            metadata={"run": document.path, "state": document.state.value},
        )
    before = document.stop
    stop = StopStatus(
        stage=before.stage if before else StopStage.REQUESTED,
        requested_by=wish.requested_by or ANONYMOUS,
        reason=wish.reason,
        request_time_unix_ns=now_unix_ns,
        grace_s=grace_s,
        may_kill=wish.may_kill,
        acknowledge_time_unix_ns=before.acknowledge_time_unix_ns if before else None,
    )
    saved = save(tx, document, Change(replace(document, stop=stop)), now_unix_ns=now_unix_ns)
    force = ", then SIGKILL" if stop.may_kill else ""
    told = f"{stop.grace_s:g} s to wind up, then SIGTERM{force}"
    evidence = f"{stop.reason}\n{told}" if stop.reason else told
    event = RunEvent(
        RunEventKind.STOP_REQUESTED,
        evidence,
        stop.requested_by,
        now_unix_ns,
        saved.attempt_count,
    )
    record_event(tx, saved, event)
    return saved


def record_stop_stage(
    tx: RunTransaction,
    run_key: RunKey,
    writer: int,
    stage: StopStage,
    evidence: str,
    *,
    now_unix_ns: int,
    limits: RunLimits,
) -> RunDocument:
    """Notes how far the stop has come; the first acknowledgement makes the run `stopping`."""
    if stage is StopStage.REQUESTED:
        raise InvalidArgument(
            "FIELD_INVALID",
            "stage REQUESTED is a user's, by RequestStop; an agent tells of ACKNOWLEDGED and what follows",
            metadata={"field": "stage", "value": stage.name},
        )
    document = find_run(tx, run_key, will_change=True)
    author = find_writer(tx, document, writer)
    stop = document.stop
    if stop is None or not author.is_counted or document.state not in LIVE_STATES:
        return document
    if stage <= stop.stage:
        return document
    is_first = stop.acknowledge_time_unix_ns is None
    stop = replace(
        stop,
        stage=stage,
        acknowledge_time_unix_ns=now_unix_ns if is_first else stop.acknowledge_time_unix_ns,
    )
    changed = replace(document, stop=stop)
    transition = None
    if document.state is RunState.RUNNING:
        changed = replace(changed, state=RunState.STOPPING)
        transition = make_transition(
            document.state,
            changed,
            TransitionCause.USER_REQUEST,
            actor=stop.requested_by,
            now_unix_ns=now_unix_ns,
            evidence=stop.reason,
        )
    saved = save(tx, document, Change(changed, transition), now_unix_ns=now_unix_ns)
    event = RunEvent(
        _EVENTS[stage],
        cut_evidence(evidence, limits) or f"{who(author)}: {stage.name.lower()}",
        who(author),
        now_unix_ns,
        saved.attempt_count,
        writer=author.writer,
    )
    record_event(tx, saved, event)
    return saved


def _check(wish: StopWish, grace_s: float, limits: RunLimits) -> None:
    if not 0 <= grace_s <= GRACE_MAX_S:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"grace is {grace_s:g} s; it lies between 0 and {GRACE_MAX_S:g} s",
            metadata={"field": "grace", "value": grace_s, "limit": GRACE_MAX_S},
        )
    if len(wish.reason) > REASON_LENGTH_MAX or "\0" in wish.reason:
        raise InvalidArgument(
            "FIELD_TOO_LARGE" if len(wish.reason) > REASON_LENGTH_MAX else "FIELD_INVALID",
            f"reason has {len(wish.reason)} characters; it may have {REASON_LENGTH_MAX}, and no NUL among them",
            metadata={"field": "reason", "value": len(wish.reason), "limit": REASON_LENGTH_MAX},
        )
    check_label(wish.requested_by, field="requested_by", limits=limits)
