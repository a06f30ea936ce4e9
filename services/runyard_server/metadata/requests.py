"""What callers ask of metadata, in the words of the domain, and the limits that it must keep."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass, field, fields, replace

from runyard_server.domain import extended_json
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.events import AlertLevel, RunEventKind
from runyard_server.domain.run import (
    DEFAULT_ENTITY,
    DEFAULT_PROJECT,
    ForkPoint,
    Host,
    MetricDefinition,
    RunException,
    RunKey,
    RunState,
    TransitionCause,
    check_entity_name,
    check_project_name,
    check_run_id,
)
from runyard_server.domain.writers import WriterIdentity

TIME_UNIX_NS_MAX = 2**63 - 1
"""The last moment (in 2262) that fits the columns of the store."""
_REQUEST_ID_LENGTHS = range(16, 65)
_SUMMARIES = frozenset({"last", "min", "max", "mean", "first", "best", "copy", "none"})
_GOALS = frozenset({"", "minimize", "maximize"})
_FINISH_CAUSES = frozenset(
    {
        TransitionCause.FINISH_CALLED,
        TransitionCause.PROCESS_EXITED,
        TransitionCause.UNHANDLED_EXCEPTION,
        TransitionCause.SIGNAL,
        TransitionCause.PROCESS_VANISHED,
        TransitionCause.USER_REQUEST,
        TransitionCause.PREEMPTED,
        TransitionCause.OUT_OF_MEMORY,
    }
)
EXCEPTION_TYPE_LENGTH_MAX = 512
EXCEPTION_MESSAGE_LENGTH_MAX = 4_096
TRACEBACK_LENGTH_MAX = 16_000
ALERT_TITLE_LENGTH_MAX = 256
ALERT_TEXT_LENGTH_MAX = 4_096
RANK_MAX = 2**24
GPU_COUNT_MAX = 1_024
STEP_MIN, STEP_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How large a run's document may get."""

    config_bytes_max: int = 4 * 1024 * 1024
    """Config as JSON text, after each change."""
    notes_bytes_max: int = 256 * 1024
    """Notes."""
    name_length_max: int = 256
    """Characters of display name, group, job type, writer label and each tag."""
    tag_count_max: int = 256
    """Tags of a run."""
    metric_definition_count_max: int = 10_000
    """Metric definitions of a run."""
    metric_name_bytes_max: int = 512
    """Name or glob of a metric definition."""
    host_field_bytes_max: int = 1024 * 1024
    """Each text that tells of the machine: command line, extra facts and the like."""
    change_count_max: int = 1000
    """Changes in one request."""
    writer_count_max: int = 65_536
    """Writers of a run."""
    evidence_bytes_max: int = 16 * 1024
    """What shows why a state changed; longer text is cut, and says so."""


class ResumeMode(enum.Enum):
    """What StartRun does with an id."""

    ALLOW = "allow"
    MUST = "must"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class StartRun:
    """A wish to log into a run; empty text where not given."""

    request_id: str
    entity: str = DEFAULT_ENTITY
    project: str = DEFAULT_PROJECT
    run_id: str = ""
    display_name: str = ""
    resume: ResumeMode = ResumeMode.ALLOW
    config_json: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""
    job_type: str = ""
    start_time_unix_ns: int | None = None
    host: Host = field(default_factory=Host)
    writer_label: str = ""
    identity: WriterIdentity = field(default_factory=WriterIdentity)
    rewind_to_step: int | None = None
    fork: ForkPoint | None = None
    """Where to fork from; its run_key is not read."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What a script wants people to know; see metadata.v1.Alert."""

    title: str
    text: str
    level: AlertLevel
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunChange:
    """One change of a run's document; None where a field does not change."""

    sequence: int
    config_set_json: str = ""
    config_removed_keys: tuple[str, ...] = ()
    metric_definition: MetricDefinition | None = None
    display_name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] | None = None
    alert: Alert | None = None
    preemption_notice: str | None = None
    host_facts_json: str = ""


@dataclass(frozen=True, slots=True)
class FinishRun:
    """The end of a writer's part in a run."""

    run_key: RunKey
    writer: int
    last_sequence: int
    exit_code: int | None
    cause: TransitionCause
    evidence: str = ""
    end_time_unix_ns: int | None = None
    exception: RunException | None = None
    is_correction: bool = False
    records_refused: int = 0


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """Something that happened to a run from outside its stream; see metadata.v1.RecordRunEventRequest."""

    run_key: RunKey
    kind: RunEventKind
    evidence: str
    actor: str
    attempt_count: int
    writer: int = 0
    since_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RecordTransition:
    """A state change from outside the run's stream."""

    run_key: RunKey
    from_state: RunState
    to_state: RunState
    cause: TransitionCause
    evidence: str
    actor: str
    attempt_count: int
    end_time_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RunEdit:
    """What a user changes; None where a field stays."""

    display_name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] | None = None
    group: str | None = None
    job_type: str | None = None
    config_json: str | None = None


def check_start(ask: StartRun, limits: RunLimits) -> StartRun:
    """Returns the request with its tags made unique; raises InvalidArgument for what no run may hold."""
    if len(ask.request_id) not in _REQUEST_ID_LENGTHS or not ask.request_id.isprintable():
        raise _invalid(
            "request_id", ask.request_id, "must have 16 to 64 printable characters, drawn at random"
        )
    check_entity_name(ask.entity)
    check_project_name(ask.project)
    if ask.run_id:
        check_run_id(ask.run_id)
    elif ask.resume is ResumeMode.MUST:
        raise _invalid("run_id", "", "is needed to resume a run: say which one")
    for name in ("display_name", "group", "job_type", "writer_label"):
        check_label(getattr(ask, name), field=name, limits=limits)
    check_notes(ask.notes, limits)
    check_host(ask.host, limits)
    check_identity(ask.identity, limits)
    check_origin(ask)
    return replace(ask, tags=check_tags(ask.tags, limits))


def check_change(change: RunChange, limits: RunLimits) -> RunChange:
    """Returns the change with its tags made unique; raises InvalidArgument for what no run may hold."""
    if change.display_name is not None:
        check_label(change.display_name, field="display_name", limits=limits)
        if not change.display_name:
            raise _invalid("display_name", "", "cannot be made empty")
    if change.notes is not None:
        check_notes(change.notes, limits)
    if change.metric_definition is not None:
        check_metric_definition(change.metric_definition, limits)
    if change.alert is not None:
        check_alert(change.alert)
    if change.preemption_notice is not None:
        check_label(change.preemption_notice, field="preemption_notice", limits=limits)
    tags = None if change.tags is None else check_tags(change.tags, limits)
    return replace(change, tags=tags)


def check_edit(edit: RunEdit, limits: RunLimits) -> RunEdit:
    """Returns the edit with its tags made unique; raises InvalidArgument for what no run may hold."""
    for name in ("display_name", "group", "job_type"):
        value = getattr(edit, name)
        if value is not None:
            check_label(value, field=name, limits=limits)
    if edit.display_name == "":
        raise _invalid("display_name", "", "cannot be made empty")
    if edit.notes is not None:
        check_notes(edit.notes, limits)
    return replace(edit, tags=None if edit.tags is None else check_tags(edit.tags, limits))


def check_finish(ask: FinishRun, limits: RunLimits) -> FinishRun:
    """Returns the request with its evidence cut to size; raises InvalidArgument for a cause that ends no writer."""
    if ask.cause not in _FINISH_CAUSES:
        allowed = ", ".join(sorted(cause.name for cause in _FINISH_CAUSES))
        raise _invalid("cause", ask.cause.name, f"ends no writer; one of {allowed} does")
    if ask.records_refused > ask.last_sequence:
        raise _too_large("records_refused", ask.records_refused, ask.last_sequence, "records")
    exception = None if ask.exception is None else cut_exception(ask.exception)
    return replace(ask, evidence=cut_evidence(ask.evidence, limits), exception=exception)


def check_identity(identity: WriterIdentity, limits: RunLimits) -> None:
    """Raises InvalidArgument for a place in a distributed run that cannot be."""
    numbers = {
        "rank": identity.rank,
        "local_rank": identity.local_rank,
        "world_size": identity.world_size,
    }
    for name, number in numbers.items():
        if number is not None and number > RANK_MAX:
            raise _too_large(f"identity.{name}", number, RANK_MAX, "as its value")
    if len(identity.gpus) > GPU_COUNT_MAX:
        raise _too_large("identity.gpus", len(identity.gpus), GPU_COUNT_MAX, "entries")
    for text in (identity.node, identity.source, identity.launch, *identity.gpus):
        check_label(text, field="identity", limits=limits)


def check_origin(ask: StartRun) -> None:
    """Raises InvalidArgument for a wish to rewind or fork that contradicts itself."""
    if ask.rewind_to_step is not None and ask.fork is not None:
        raise _invalid("fork", ask.fork.run_path, "cannot go together with rewind_to_step")
    if ask.rewind_to_step is not None:
        if not ask.run_id:
            raise _invalid("run_id", "", "is needed to rewind a run: say which one")
        if ask.resume is ResumeMode.NEVER:
            raise _invalid("resume", "never", "contradicts rewind_to_step, which continues a run")
    if ask.fork is not None and ask.resume is ResumeMode.MUST:
        raise _invalid("resume", "must", "contradicts fork, which starts a run")


def check_alert(alert: Alert) -> None:
    """Raises InvalidArgument for an alert without a title, or with texts that are too long."""
    if not alert.title.strip():
        raise _invalid("alert.title", alert.title, "is empty; say in a few words what happened")
    if len(alert.title) > ALERT_TITLE_LENGTH_MAX:
        raise _too_large("alert.title", len(alert.title), ALERT_TITLE_LENGTH_MAX, "characters")
    if len(alert.text) > ALERT_TEXT_LENGTH_MAX:
        raise _too_large("alert.text", len(alert.text), ALERT_TEXT_LENGTH_MAX, "characters")
    if "\0" in alert.title + alert.text:
        raise _invalid("alert.text", alert.text, "holds a NUL character")


def cut_exception(exception: RunException) -> RunException:
    """Returns the exception without NULs, its texts cut to size; of a traceback the end is kept, which names the exception."""
    type_name, message, trace = (
        text.replace("\0", "\ufffd")
        for text in (exception.type, exception.message, exception.traceback)
    )
    return replace(
        exception,
        type=type_name[:EXCEPTION_TYPE_LENGTH_MAX],
        message=message[:EXCEPTION_MESSAGE_LENGTH_MAX],
        traceback=trace[-TRACEBACK_LENGTH_MAX:],
    )


def check_label(value: str, *, field: str, limits: RunLimits) -> str:
    """Returns the one-line text if it may be a name, label or tag."""
    if len(value) > limits.name_length_max:
        raise _too_large(field, len(value), limits.name_length_max, "characters")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        raise _invalid(field, value, "holds a control character")
    return value


def check_notes(value: str, limits: RunLimits) -> str:
    """Returns the text if it may be a run's notes."""
    size_bytes = len(value.encode())
    if size_bytes > limits.notes_bytes_max:
        raise _too_large("notes", size_bytes, limits.notes_bytes_max, "bytes")
    if "\0" in value:
        raise _invalid("notes", value, "holds a NUL character")
    return value


def check_tags(tags: tuple[str, ...], limits: RunLimits) -> tuple[str, ...]:
    """Returns the tags, each once, in the order given."""
    unique = tuple(dict.fromkeys(tags))
    if len(unique) > limits.tag_count_max:
        raise _too_large("tags", len(unique), limits.tag_count_max, "tags")
    for tag in unique:
        check_label(tag, field="tags", limits=limits)
        if not tag.strip():
            raise _invalid("tags", tag, "holds an empty tag")
    return unique


def check_metric_definition(definition: MetricDefinition, limits: RunLimits) -> None:
    """Raises InvalidArgument for a definition that cannot be."""
    for name in (definition.name, definition.step_metric):
        size_bytes = len(name.encode())
        if size_bytes > limits.metric_name_bytes_max:
            raise _too_large(
                "metric_definition.name", size_bytes, limits.metric_name_bytes_max, "bytes"
            )
        if "\0" in name:
            raise _invalid("metric_definition.name", name, "holds a NUL character")
    if not definition.name:
        raise _invalid("metric_definition.name", "", "is empty; name a metric or a glob")
    wrong = sorted(set(definition.summaries) - _SUMMARIES)
    if wrong:
        allowed = ", ".join(sorted(_SUMMARIES))
        raise _invalid("metric_definition.summaries", wrong[0], f"is none of {allowed}")
    if definition.goal not in _GOALS:
        raise _invalid("metric_definition.goal", definition.goal, "is not minimize or maximize")


def check_host(host: Host, limits: RunLimits) -> None:
    """Raises InvalidArgument for texts that are too large or hold a NUL, and for extra facts that are no object."""
    for member in fields(host):
        value = getattr(host, member.name)
        if not isinstance(value, str):
            continue
        size_bytes = len(value.encode())
        if size_bytes > limits.host_field_bytes_max:
            raise _too_large(
                f"host.{member.name}", size_bytes, limits.host_field_bytes_max, "bytes"
            )
        if "\0" in value:
            raise _invalid(f"host.{member.name}", value, "holds a NUL character")
    extended_json.read_object(
        host.extra_json, field="host.extra_json", bytes_max=limits.host_field_bytes_max
    )


def cut_evidence(evidence: str, limits: RunLimits) -> str:
    """Returns the text without NULs, its middle left out if it is too long: the ends of a traceback tell most."""
    text = evidence.replace("\0", "\ufffd")
    raw = text.encode()
    if len(raw) <= limits.evidence_bytes_max:
        return text
    half = (limits.evidence_bytes_max - 64) // 2
    start = raw[:half].decode(errors="ignore")
    end = raw[-half:].decode(errors="ignore")
    return f"{start}\n… {len(raw) - 2 * half} bytes left out …\n{end}"


def clamp_time(unix_ns: int | None) -> int | None:
    """Returns the time moved into what the store can hold, years 1970 to 2262; a training machine's clock may say anything."""
    return None if unix_ns is None else min(max(unix_ns, 0), TIME_UNIX_NS_MAX)


def _too_large(field: str, value: int, limit: int, unit: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_TOO_LARGE",
        f"{field} has {value} {unit}, at most {limit} are allowed",
        metadata={"field": field, "value": value, "limit": limit},
    )


def _invalid(field: str, value: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} {value[:256]!r} {problem}",
        metadata={"field": field, "value": value[:256]},
    )
