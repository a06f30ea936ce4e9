"""Asks a server to stop a run, and reads what happened to it: the calls of `runyard stop`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from google.protobuf import message

from runyard.rpc import Connection
from runyard_protos.metadata.v1 import metadata_pb2

METADATA = "/runyard.metadata.v1.MetadataService/"
LIVE_STATES = ("pending", "running", "stopping")


@dataclasses.dataclass(frozen=True)
class StopState:
    """A run's state, and the stop that was asked for in its current attempt; "" where there is none."""

    path: str
    state: str
    stage: str
    """requested, acknowledged, draining, terminated or killed."""
    exit_code: int | None

    @property
    def is_live(self) -> bool:
        """Returns whether the run goes on."""
        return self.state in LIVE_STATES


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


def request_stop(
    connection: Connection,
    path: str,
    *,
    grace_s: float | None,
    may_kill: bool,
    reason: str,
    requested_by: str,
) -> StopState:
    """Asks that the run stop; raises NotFound, or FailedPrecondition for a run that is not live."""
    request = metadata_pb2.RequestStopRequest(
        run_path=path, may_kill=may_kill, reason=reason, requested_by=requested_by
    )
    if grace_s is not None:
        request.grace.FromNanoseconds(int(grace_s * 1e9))
    reply = connection.call(METADATA + "RequestStop", request, metadata_pb2.RequestStopResponse)
    return _stop_state(reply.run)


def stop_state(connection: Connection, path: str) -> StopState:
    """Returns how far the run's stop has come."""
    request = metadata_pb2.GetRunRequest(path=path)
    reply = connection.call(METADATA + "GetRun", request, metadata_pb2.GetRunResponse)
    return _stop_state(reply.run)


def list_events(connection: Connection, path: str) -> Iterator[EventRecord]:
    """Yields all that happened to the run, oldest first."""
    token = ""
    while True:
        request = metadata_pb2.ListRunEventsRequest(run_path=path, page_size=1000, page_token=token)
        reply = connection.call(
            METADATA + "ListRunEvents", request, metadata_pb2.ListRunEventsResponse
        )
        for event in reply.events:
            yield _event(event)
        token = reply.next_page_token
        if not token:
            return


def _stop_state(run: metadata_pb2.Run) -> StopState:
    stage = run.stop.stage if run.HasField("stop") else 0
    return StopState(
        path=run.path,
        state=name_of(run, "state", run.state),
        stage=name_of(run.stop, "stage", stage) if stage else "",
        exit_code=run.exit_code if run.HasField("exit_code") else None,
    )


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


def name_of(holder: message.Message, field: str, number: int) -> str:
    """Returns the name of an enum's value without its prefix, in small letters; the number where it has none here."""
    kind = holder.DESCRIPTOR.fields_by_name[field].enum_type
    assert kind is not None, f"{field} is no enum"
    value = kind.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix_length = len(kind.values_by_number[0].name) - len("UNSPECIFIED")
    return str(value.name)[prefix_length:].lower()
