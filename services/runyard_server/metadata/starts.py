"""How runs start: new ones, further attempts at old ones, and further writers of live ones."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runyard_server.domain.attempts import AttemptKind, RunAttempt
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
)
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.extended_json import merge_config
from runyard_server.domain.run import (
    LIVE_STATES,
    ForkPoint,
    RunDocument,
    RunState,
    StopStage,
    TransitionCause,
    make_run_key,
)
from runyard_server.domain.writers import DEFAULT_WRITER_LABEL, Writer
from runyard_server.metadata import projects
from runyard_server.metadata.history import forked_parts, rewound_parts
from runyard_server.metadata.requests import (
    ResumeMode,
    RunLimits,
    StartRun,
    check_start,
    check_tags,
    clamp_time,
)
from runyard_server.metadata.runs import (
    Change,
    check_not_deleted,
    config_text,
    either,
    find_run,
    find_run_by_path,
    make_transition,
    read_config,
    record_event,
    run_not_found,
    save,
    who,
)
from runyard_server.metadata.words import make_display_name
from runyard_server.storage.ports.run_store import RunTransaction

NS_PER_MS = 1_000_000
RUN_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
RUN_ID_DRAWN_LENGTH = 8
_DRAWS_MAX = 64


@dataclass(frozen=True, slots=True)
class StartedRun:
    """What StartRun made or found."""

    run: RunDocument
    writer: Writer
    attempt_first_writer: int = 1


def start_run(tx: RunTransaction, ask: StartRun, *, clock: Clock, limits: RunLimits) -> StartedRun:
    """Starts a run or a further attempt at one, and makes the caller a writer of it."""
    ask = check_start(ask, limits)
    known = tx.find_writer_by_request(ask.request_id)
    if known is not None:
        return _started(tx, _check_repeat(find_run(tx, known.run_key), ask), known)
    now = clock.now_unix_ns()
    projects.ensure_project(tx, ask.entity, ask.project, now_unix_ns=now)
    run_id = ask.run_id or _draw_run_id(tx, ask, clock)
    found = tx.find_run(ask.entity, ask.project, run_id, will_change=True)
    if found is None:
        return _start_new(tx, replace(ask, run_id=run_id), clock=clock, limits=limits)
    check_not_deleted(found)
    _check_may_continue(found, ask)
    return _resume(tx, found, ask, now_unix_ns=now, limits=limits)


def needed_step(tx: RunTransaction, ask: StartRun) -> tuple[str, int] | None:
    """Returns (path, step) of the step that the request goes back to, and that the run must have reached; None if none.

    Raises what find_run_by_path does for a parent that is not there. A repeat needs nothing: it was answered before.
    """
    if tx.find_writer_by_request(ask.request_id) is not None:
        return None
    if ask.rewind_to_step is not None:
        return f"{ask.entity}/{ask.project}/{ask.run_id}", ask.rewind_to_step
    if (
        ask.fork is not None
        and tx.find_run(ask.entity, ask.project, ask.run_id, will_change=False) is None
    ):
        return find_run_by_path(tx, ask.fork.run_path).path, ask.fork.step
    return None


def check_step_reached(path: str, step: int, *, last_step: int | None) -> None:
    """Raises FailedPrecondition STEP_NOT_REACHED if the run has no step as high as the one to go back to."""
    if last_step is not None and step <= last_step:
        return
    has = "has no points" if last_step is None else f"ends at step {last_step}"
    raise FailedPrecondition(
        "STEP_NOT_REACHED",
        f"run {path} {has}: there is no step {step} to go back to",
        metadata={"run": path, "step": step, "limit": "" if last_step is None else last_step},
    )


def _check_may_continue(found: RunDocument, ask: StartRun) -> None:
    """Raises AlreadyExists if the request wants a new run; the same fork again is no new one, but continues."""
    is_same_fork = (
        ask.fork is not None
        and found.fork is not None
        and (ask.fork.run_path, ask.fork.step) == (found.fork.run_path, found.fork.step)
    )
    if ask.resume is ResumeMode.NEVER and not (is_same_fork and found.state in LIVE_STATES):
        raise AlreadyExists(
            "RUN_ALREADY_EXISTS",
            f"run {found.path} exists; choose another id, or resume it with resume='allow'",
            metadata={"run": found.path},
        )
    if ask.fork is not None and not is_same_fork:
        raise AlreadyExists(
            "RUN_ALREADY_EXISTS",
            f"run {found.path} exists, and a fork starts a new run; choose another id",
            metadata={"run": found.path},
        )


def _start_new(tx: RunTransaction, ask: StartRun, *, clock: Clock, limits: RunLimits) -> StartedRun:
    if ask.resume is ResumeMode.MUST or ask.rewind_to_step is not None:
        path = f"{ask.entity}/{ask.project}/{ask.run_id}"
        raise run_not_found(f"{path} to resume", path)
    now = clock.now_unix_ns()
    number = tx.draw_run_number(ask.entity, ask.project)
    start_time = either(clamp_time(ask.start_time_unix_ns), now)
    document = RunDocument(
        run_key=make_run_key(now // NS_PER_MS, clock.random_bits(22)),
        entity=ask.entity,
        project=ask.project,
        run_id=ask.run_id,
        display_name=ask.display_name or make_display_name(number, clock.random_bits(32)),
        state=RunState.RUNNING,
        config_json=config_text(read_config(ask.config_json, limits), limits),
        notes=ask.notes,
        tags=ask.tags,
        group=ask.group,
        job_type=ask.job_type,
        create_time_unix_ns=now,
        start_time_unix_ns=start_time,
        heartbeat_time_unix_ns=now,
        update_time_unix_ns=now,
        host=ask.host,
        attempt_start_unix_ns=start_time,
        version=1,
    )
    if ask.fork is not None:
        document = _as_fork(tx, document, ask.fork, ask, limits)
    tx.insert_run(document)
    writer = _make_writer(document, ask, attempt=1, is_resumed=False, now_unix_ns=now)
    tx.insert_writer(writer)
    transition = make_transition(
        None, document, TransitionCause.STARTED, actor=who(writer), now_unix_ns=now
    )
    record_event(tx, document, RunEvent.of(transition))
    kind = AttemptKind.START
    if document.fork is not None:
        kind = AttemptKind.FORK
        tx.insert_ancestors(
            document.run_key, tuple(part.run_key for part in document.history_parts[1:])
        )
        evidence = f"from {document.fork.run_path} at step {document.fork.step}"
        record_event(
            tx, document, RunEvent(RunEventKind.FORKED, evidence, who(writer), now, attempt=1)
        )
    _begin_attempt(tx, document, ask, kind, writer)
    tx.change_project(
        ask.entity,
        ask.project,
        run_count_change=1,
        live_run_count_change=1,
        activity_time_unix_ns=now,
    )
    return StartedRun(document, writer)


def _as_fork(
    tx: RunTransaction, document: RunDocument, fork: ForkPoint, ask: StartRun, limits: RunLimits
) -> RunDocument:
    """Returns the new run as a fork: the parent's history up to the step, its config beneath the one given, its definitions."""
    parent = find_run_by_path(tx, fork.run_path, will_change=True)
    merged = merge_config(
        read_config(parent.config_json, limits),
        changes=read_config(ask.config_json, limits),
        removed_keys=(),
    )
    return replace(
        document,
        fork=ForkPoint(parent.path, parent.run_key, fork.step),
        history_parts=forked_parts(parent, step=fork.step, run_key=document.run_key),
        config_json=config_text(merged, limits),
        metric_definitions=parent.metric_definitions,
    )


def _begin_attempt(
    tx: RunTransaction, document: RunDocument, ask: StartRun, kind: AttemptKind, writer: Writer
) -> None:
    tx.save_attempt(
        document.run_key,
        RunAttempt(
            attempt=document.attempt_count,
            kind=kind,
            start_time_unix_ns=writer.start_time_unix_ns,
            first_writer=writer.writer,
            hostname=ask.host.hostname,
            rewound_to_step=ask.fork.step if ask.fork is not None else ask.rewind_to_step,
        ),
    )


class _Way(enum.Enum):
    """How a process comes into a run that exists."""

    JOIN = "a further rank of a live attempt"
    LATE = "a rank of the attempt's launch that comes when all others have ended"
    RESUME = "a new attempt: the run had ended, or the process takes over from one of its label"
    REWIND = "a new attempt that goes back"

    @property
    def is_attempt(self) -> bool:
        return self in (_Way.RESUME, _Way.REWIND)


def _resume(
    tx: RunTransaction, found: RunDocument, ask: StartRun, *, now_unix_ns: int, limits: RunLimits
) -> StartedRun:
    """Makes the caller a writer of a run that exists."""
    _check_writer_count(found, limits)
    counted = tx.list_counted_writers(found.run_key)
    way = _way_in(tx, found, ask, counted)
    if way is _Way.REWIND or (way is _Way.RESUME and found.state not in LIVE_STATES):
        tx.retire_writers(found.run_key)
    document = replace(
        _with_wishes(found, ask, limits, is_new_attempt=way.is_attempt),
        writer_count=found.writer_count + 1,
        heartbeat_time_unix_ns=now_unix_ns,
    )
    if way.is_attempt:
        document = _next_attempt(document, ask, now_unix_ns=now_unix_ns)
    if way is _Way.REWIND:
        assert ask.rewind_to_step is not None
        document = replace(document, history_parts=rewound_parts(found, to_step=ask.rewind_to_step))
    writer = _make_writer(
        document, ask, attempt=document.attempt_count, is_resumed=True, now_unix_ns=now_unix_ns
    )
    tx.insert_writer(writer)
    if way.is_attempt:
        kind = AttemptKind.REWIND if way is _Way.REWIND else AttemptKind.RESUME
        _begin_attempt(tx, document, ask, kind, writer)
    change = _revived(found, document, way, writer, counted, now_unix_ns=now_unix_ns)
    saved = save(tx, found, change, now_unix_ns=now_unix_ns)
    if way is _Way.REWIND:
        evidence = (
            f"to step {ask.rewind_to_step}: what earlier attempts logged after it is superseded"
        )
        event = RunEvent(
            RunEventKind.REWOUND, evidence, who(writer), now_unix_ns, saved.attempt_count
        )
        record_event(tx, saved, event)
    return _started(tx, saved, writer)


def _way_in(
    tx: RunTransaction, found: RunDocument, ask: StartRun, counted: Sequence[Writer]
) -> _Way:
    """Returns how the process comes in: as a rank of the attempt that is there, or with an attempt of its own."""
    current = [w for w in counted if w.attempt == found.attempt_count]
    is_same_launch = bool(ask.identity.launch) and ask.identity.launch in {
        w.identity.launch for w in current
    }
    # The first rank of a restarted job takes over from its label, with an attempt; the others of its launch join that,
    # though theirs of the launch before are there too.
    known = {w.label for w in (current if is_same_launch else counted)}
    is_new_label = writer_label(ask) not in known
    is_there = found.state in LIVE_STATES or is_same_launch
    if ask.rewind_to_step is not None:
        attempt = tx.find_attempt(found.run_key, found.attempt_count)
        is_rewound = (
            attempt is not None
            and attempt.kind is AttemptKind.REWIND
            and attempt.rewound_to_step == ask.rewind_to_step
        )
        if not (is_there and is_new_label and is_rewound):
            return _Way.REWIND
    if not (is_there and is_new_label):
        return _Way.RESUME
    return _Way.JOIN if found.state in LIVE_STATES else _Way.LATE


def _revived(
    found: RunDocument,
    document: RunDocument,
    way: _Way,
    writer: Writer,
    counted: Sequence[Writer],
    *,
    now_unix_ns: int,
) -> Change:
    """Returns the document as live, with the transition to that if it was not, or if a process took over."""
    if way is _Way.JOIN:
        return Change(document)
    if way is _Way.RESUME and found.state is RunState.STOPPING:
        # The stop goes on: a rank that was restarted does not call it off.
        return Change(replace(document, stop=found.stop))
    evidence = ""
    if way is _Way.LATE:
        document = replace(document, end_time_unix_ns=None, exit_code=None, exception=None)
        if found.stop is not None:
            # It is asked to stop as the others were.
            asked = replace(found.stop, stage=StopStage.REQUESTED, acknowledge_time_unix_ns=None)
            document = replace(document, stop=asked)
        evidence = "it is of the same launch as those that had ended"
    elif found.state in LIVE_STATES:
        before = [w for w in counted if w.label == writer.label]
        evidence = f"writer {before[-1].writer} had its label" if before else ""
    document = replace(document, state=RunState.RUNNING)
    transition = make_transition(
        found.state,
        document,
        TransitionCause.RESUMED,
        actor=who(writer),
        now_unix_ns=now_unix_ns,
        evidence=evidence,
    )
    return Change(document, transition)


def _started(tx: RunTransaction, document: RunDocument, writer: Writer) -> StartedRun:
    attempt = tx.find_attempt(document.run_key, writer.attempt)
    first_writer = attempt.first_writer if attempt is not None else writer.writer
    return StartedRun(document, writer, first_writer)


def _next_attempt(document: RunDocument, ask: StartRun, *, now_unix_ns: int) -> RunDocument:
    """Returns the document at the start of its next attempt: what told of the last one's end is gone, its time is counted."""
    start_time = either(clamp_time(ask.start_time_unix_ns), now_unix_ns)
    return replace(
        document,
        attempt_count=document.attempt_count + 1,
        past_active_ns=document.active_ns(start_time),
        attempt_start_unix_ns=start_time,
        end_time_unix_ns=None,
        exit_code=None,
        exception=None,
        stop=None,
        stalled_since_unix_ns=None,
        preemption_notice="",
    )


def _check_writer_count(found: RunDocument, limits: RunLimits) -> None:
    if found.writer_count >= limits.writer_count_max:
        raise ResourceExhausted(
            "FIELD_TOO_LARGE",
            f"run {found.path} has {found.writer_count} writers, at most {limits.writer_count_max} are allowed",
            metadata={
                "field": "writer_count",
                "value": found.writer_count,
                "limit": limits.writer_count_max,
            },
        )


def writer_label(ask: StartRun) -> str:
    """Returns the label of the writer that the request makes: the one given, else its rank's."""
    if ask.writer_label:
        return ask.writer_label
    rank = ask.identity.rank
    return DEFAULT_WRITER_LABEL if rank is None else f"rank{rank}"


def _with_wishes(
    found: RunDocument, ask: StartRun, limits: RunLimits, *, is_new_attempt: bool
) -> RunDocument:
    """Returns the document with what a further init() brings: what it names replaces, tags and config keys are added."""
    config_json = found.config_json
    added = read_config(ask.config_json, limits)
    if added:
        merged = merge_config(
            read_config(found.config_json, limits), changes=added, removed_keys=()
        )
        config_json = config_text(merged, limits)
    return replace(
        found,
        display_name=ask.display_name or found.display_name,
        config_json=config_json,
        notes=ask.notes or found.notes,
        tags=check_tags((*found.tags, *ask.tags), limits),
        group=ask.group or found.group,
        job_type=ask.job_type or found.job_type,
        host=ask.host if is_new_attempt else found.host,
    )


def _check_repeat(document: RunDocument, ask: StartRun) -> RunDocument:
    """Returns the document if the request is the one that was answered before."""
    is_same = (document.entity, document.project) == (ask.entity, ask.project)
    if is_same and ask.run_id in ("", document.run_id):
        return document
    raise InvalidArgument(
        "REQUEST_ID_REUSED",
        f"request_id {ask.request_id!r} was used for run {document.path}; draw a new one for each init()",
        metadata={"request_id": ask.request_id, "run": document.path},
    )


def _make_writer(
    document: RunDocument, ask: StartRun, *, attempt: int, is_resumed: bool, now_unix_ns: int
) -> Writer:
    return Writer(
        run_key=document.run_key,
        writer=document.writer_count,
        request_id=ask.request_id,
        label=writer_label(ask),
        attempt=attempt,
        is_resumed=is_resumed,
        start_time_unix_ns=either(clamp_time(ask.start_time_unix_ns), now_unix_ns),
        identity=ask.identity,
        hostname=ask.host.hostname,
        pid=ask.host.pid,
    )


def _draw_run_id(tx: RunTransaction, ask: StartRun, clock: Clock) -> str:
    for _ in range(_DRAWS_MAX):
        bits = clock.random_bits(64)
        characters = []
        for _ in range(RUN_ID_DRAWN_LENGTH):
            bits, index = divmod(bits, len(RUN_ID_CHARACTERS))
            characters.append(RUN_ID_CHARACTERS[index])
        run_id = "".join(characters)
        if tx.find_run(ask.entity, ask.project, run_id, will_change=False) is None:
            return run_id
    raise AssertionError(
        f"{_DRAWS_MAX} drawn ids were all taken: the clock's random bits are not random"
    )
