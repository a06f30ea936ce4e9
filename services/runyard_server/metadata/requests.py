"""What callers ask of metadata, in the words of the domain, and the limits that it must keep."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass, field, fields, replace

from runyard_server.domain import extended_json
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import (
    DEFAULT_ENTITY,
    DEFAULT_PROJECT,
    Host,
    MetricDefinition,
    RunKey,
    RunState,
    TransitionCause,
    check_entity_name,
    check_project_name,
    check_run_id,
)

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
    }
)


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
    return replace(ask, evidence=cut_evidence(ask.evidence, limits))


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
