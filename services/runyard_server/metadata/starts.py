"""How runs start: new ones, further attempts at old ones, and further writers of live ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import AlreadyExists, InvalidArgument, ResourceExhausted
from runyard_server.domain.events import RunEvent
from runyard_server.domain.extended_json import merge_config
from runyard_server.domain.run import (
    LIVE_STATES,
    RunDocument,
    RunState,
    TransitionCause,
    make_run_key,
)
from runyard_server.domain.writers import DEFAULT_WRITER_LABEL, Writer
from runyard_server.metadata import projects
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


def start_run(tx: RunTransaction, ask: StartRun, *, clock: Clock, limits: RunLimits) -> StartedRun:
    """Starts a run or a further attempt at one, and makes the caller a writer of it."""
    ask = check_start(ask, limits)
    known = tx.find_writer_by_request(ask.request_id)
    if known is not None:
        return StartedRun(_check_repeat(find_run(tx, known.run_key), ask), known)
    now = clock.now_unix_ns()
    projects.ensure_project(tx, ask.entity, ask.project, now_unix_ns=now)
    run_id = ask.run_id or _draw_run_id(tx, ask, clock)
    found = tx.find_run(ask.entity, ask.project, run_id, will_change=True)
    if found is None:
        return _start_new(tx, replace(ask, run_id=run_id), clock=clock, limits=limits)
    check_not_deleted(found)
    if ask.resume is ResumeMode.NEVER:
        raise AlreadyExists(
            "RUN_ALREADY_EXISTS",
            f"run {found.path} exists; choose another id, or resume it with resume='allow'",
            metadata={"run": found.path},
        )
    return _resume(tx, found, ask, now_unix_ns=now, limits=limits)


def _start_new(tx: RunTransaction, ask: StartRun, *, clock: Clock, limits: RunLimits) -> StartedRun:
    if ask.resume is ResumeMode.MUST:
        path = f"{ask.entity}/{ask.project}/{ask.run_id}"
        raise run_not_found(f"{path} to resume", path)
    now = clock.now_unix_ns()
    number = tx.draw_run_number(ask.entity, ask.project)
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
        start_time_unix_ns=either(clamp_time(ask.start_time_unix_ns), now),
        heartbeat_time_unix_ns=now,
        update_time_unix_ns=now,
        host=ask.host,
        version=1,
    )
    tx.insert_run(document)
    writer = _make_writer(document, ask, attempt=1, is_resumed=False, now_unix_ns=now)
    tx.insert_writer(writer)
    transition = make_transition(
        None, document, TransitionCause.STARTED, actor=who(writer), now_unix_ns=now
    )
    record_event(tx, document, RunEvent.of(transition))
    tx.change_project(
        ask.entity,
        ask.project,
        run_count_change=1,
        live_run_count_change=1,
        activity_time_unix_ns=now,
    )
    return StartedRun(document, writer)


def _resume(
    tx: RunTransaction, found: RunDocument, ask: StartRun, *, now_unix_ns: int, limits: RunLimits
) -> StartedRun:
    """Makes the caller a writer of a run that exists.

    A live run is joined (another rank). It gets a new attempt if it had ended, or if a process of the same label was
    there before: then that one was restarted.
    """
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
    label = ask.writer_label or DEFAULT_WRITER_LABEL
    is_live = found.state in LIVE_STATES
    before = [w for w in tx.list_counted_writers(found.run_key) if w.label == label]
    is_new_attempt = not is_live or bool(before)
    if not is_live:
        tx.retire_writers(found.run_key)
    document = replace(
        _with_wishes(found, ask, limits, is_new_attempt=is_new_attempt),
        writer_count=found.writer_count + 1,
        attempt_count=found.attempt_count + is_new_attempt,
        heartbeat_time_unix_ns=now_unix_ns,
    )
    writer = _make_writer(
        document, ask, attempt=document.attempt_count, is_resumed=True, now_unix_ns=now_unix_ns
    )
    tx.insert_writer(writer)
    transition = None
    if is_new_attempt and found.state is not RunState.STOPPING:
        document = replace(document, state=RunState.RUNNING, end_time_unix_ns=None, exit_code=None)
        evidence = f"writer {before[-1].writer} had its label" if before and is_live else ""
        transition = make_transition(
            found.state,
            document,
            TransitionCause.RESUMED,
            actor=who(writer),
            now_unix_ns=now_unix_ns,
            evidence=evidence,
        )
    saved = save(tx, found, Change(document, transition), now_unix_ns=now_unix_ns)
    return StartedRun(saved, writer)


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
        label=ask.writer_label or DEFAULT_WRITER_LABEL,
        attempt=attempt,
        is_resumed=is_resumed,
        start_time_unix_ns=either(clamp_time(ask.start_time_unix_ns), now_unix_ns),
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
