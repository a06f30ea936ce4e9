"""Reads what happened to a run, who wrote it, how far each is, and how often it was begun: events, writers, attempts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from runyard.rpc import METADATA, Connection, name_of
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.monitor.v1 import monitor_pb2

PAGE_SIZE = 1_000
_MONITOR = "/runyard.monitor.v1.MonitorService/"


@dataclasses.dataclass(frozen=True)
class EventRecord:
    """One thing that happened to a run."""

    number: int
    kind: str
    """As RunEventKind names it, in small letters: "stop_requested", "transition"."""
    time_s: float
    actor: str
    evidence: str
    to_state: str
    """Of a transition: the state after it."""
    cause: str
    """Of a transition: why."""
    from_state: str = ""
    """Of a transition: the state before it; "" at the start."""
    title: str = ""
    """Of an alert."""
    level: str = ""
    """Of an alert: info, warn or error."""
    attempt: int = 0
    writer: int = 0
    """Number of the writer that it is about; 0: the run as a whole."""


@dataclasses.dataclass(frozen=True)
class WriterRecord:
    """One process that logged into a run; times are Unix seconds."""

    writer: int
    label: str
    attempt: int
    state: str
    rank: int | None
    node: str
    """Name of its node, or of its host."""
    pid: int
    gpus: tuple[str, ...]
    start_time_s: float
    end_time_s: float | None
    """None while it lives."""
    exit_code: int | None
    evidence: str
    is_current: bool
    """False for one of an attempt that had ended before a later one began."""


@dataclasses.dataclass(frozen=True)
class WriterLiveness:
    """What the beats of one writer tell."""

    writer: int
    last_beat_time_s: float | None
    """When the server heard its last beat, Unix seconds; None: not since the monitor started."""
    last_step: int | None
    """Its highest step; None: none yet."""
    steps_behind: int | None
    """How far that is behind the median of the writers; 0 for one ahead of it. None: not known."""
    is_straggler: bool
    """True: it is behind by the project's margin or more."""
    is_silent: bool
    """True: no beat for longer than the crash timeout."""
    is_process_alive: bool
    records_written: int
    records_durable: int


@dataclasses.dataclass(frozen=True)
class RunLiveness:
    """What the beats of a live run's writers tell; of one that is not live there are none."""

    median_step: int | None
    straggler_steps: int
    """Steps behind the median that make a straggler."""
    writers: tuple[WriterLiveness, ...]
    """By number."""


@dataclasses.dataclass(frozen=True)
class AttemptRecord:
    """One time that a run was begun or continued; times are Unix seconds."""

    attempt: int
    kind: str
    """start, resume, rewind or fork."""
    state: str
    """At its end; of the current attempt: now."""
    start_time_s: float
    end_time_s: float | None
    rewound_to_step: int | None
    """The last step of before that still counts; None: all do."""
    first_writer: int
    hostname: str


def list_events(connection: Connection, path: str) -> Iterator[EventRecord]:
    """Yields all that happened to the run, oldest first; raises NotFound."""
    request = metadata_pb2.ListRunEventsRequest(run_path=path, page_size=PAGE_SIZE)
    kind = metadata_pb2.ListRunEventsResponse
    for reply in _pages(connection, "ListRunEvents", request, kind):
        yield from map(_event, reply.events)


def list_writers(connection: Connection, path: str) -> Iterator[WriterRecord]:
    """Yields the run's writers by number; raises NotFound."""
    request = metadata_pb2.ListRunWritersRequest(run_path=path, page_size=PAGE_SIZE)
    kind = metadata_pb2.ListRunWritersResponse
    for reply in _pages(connection, "ListRunWriters", request, kind):
        yield from map(_writer, reply.writers)


def list_attempts(connection: Connection, path: str) -> list[AttemptRecord]:
    """Returns the run's attempts, oldest first; raises NotFound."""
    request = metadata_pb2.ListRunAttemptsRequest(run_path=path)
    reply = connection.call(
        METADATA + "ListRunAttempts", request, metadata_pb2.ListRunAttemptsResponse
    )
    return [
        AttemptRecord(
            attempt=one.attempt,
            kind=name_of(one, "kind", one.kind),
            state=name_of(one, "state", one.state),
            start_time_s=one.start_time.ToNanoseconds() / 1e9,
            end_time_s=_optional_s(one, "end_time"),
            rewound_to_step=one.rewound_to_step if one.HasField("rewound_to_step") else None,
            first_writer=one.first_writer,
            hostname=one.hostname,
        )
        for one in reply.attempts
    ]


def read_liveness(connection: Connection, path: str) -> RunLiveness:
    """Returns how far each writer of a live run is, and when it last beat; raises NotFound, Unavailable."""
    request = monitor_pb2.ListWriterLivenessRequest(run_path=path)
    reply = connection.call(
        _MONITOR + "ListWriterLiveness", request, monitor_pb2.ListWriterLivenessResponse
    )
    median = reply.median_step if reply.HasField("median_step") else None
    writers = tuple(_liveness(one, median) for one in reply.writers)
    return RunLiveness(median, reply.straggler_steps, writers)


def _pages(connection: Connection, method: str, request: Any, kind: type[Any]) -> Iterator[Any]:
    """Yields the replies to the request, page after page."""
    while True:
        reply = connection.call(METADATA + method, request, kind)
        yield reply
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def _event(event: metadata_pb2.RunEvent) -> EventRecord:
    transition = event.transition
    before = getattr(transition, "from")
    return EventRecord(
        number=event.number,
        kind=name_of(event, "kind", event.kind),
        time_s=event.record_time.ToNanoseconds() / 1e9,
        actor=event.actor,
        evidence=event.evidence,
        to_state=name_of(transition, "to", transition.to) if transition.to else "",
        cause=name_of(transition, "cause", transition.cause) if transition.cause else "",
        from_state=name_of(transition, "from", before) if before else "",
        title=event.title,
        level=name_of(event, "level", event.level) if event.level else "",
        attempt=event.attempt,
        writer=event.writer,
    )


def _writer(one: metadata_pb2.RunWriter) -> WriterRecord:
    return WriterRecord(
        writer=one.writer,
        label=one.label,
        attempt=one.attempt,
        state=name_of(one, "state", one.state),
        rank=one.identity.rank if one.identity.HasField("rank") else None,
        node=one.identity.node or one.hostname,
        pid=one.pid,
        gpus=tuple(one.identity.gpus),
        start_time_s=one.start_time.ToNanoseconds() / 1e9,
        end_time_s=_optional_s(one, "end_time"),
        exit_code=one.exit_code if one.HasField("exit_code") else None,
        evidence=one.evidence,
        is_current=one.is_current,
    )


def _liveness(one: monitor_pb2.WriterLiveness, median: int | None) -> WriterLiveness:
    step = one.last_step if one.HasField("last_step") else None
    return WriterLiveness(
        writer=one.writer,
        last_beat_time_s=_optional_s(one, "last_beat_time"),
        last_step=step,
        steps_behind=None if step is None or median is None else max(0, median - step),
        is_straggler=one.is_straggler,
        is_silent=one.is_silent,
        is_process_alive=one.is_process_alive,
        records_written=one.records_written,
        records_durable=one.records_durable,
    )


def _optional_s(holder: Any, field: str) -> float | None:
    return getattr(holder, field).ToNanoseconds() / 1e9 if holder.HasField(field) else None
