"""Turns times, durations, states and causes into the values that messages hold, and back."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import RunState, RunTransition, TransitionCause

NS_PER_S: Final = 1_000_000_000
TIMESTAMP_SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999, the latest that a Timestamp may say."""

_STATES: Final = {state: pb.RunState.Value(f"RUN_STATE_{state.name}") for state in RunState}
_STATE_BY_NUMBER: Final = {number: state for state, number in _STATES.items()}
_CAUSES: Final = {
    cause: pb.TransitionCause.Value(f"TRANSITION_CAUSE_{cause.name}") for cause in TransitionCause
}
_CAUSE_BY_NUMBER: Final = {number: cause for cause, number in _CAUSES.items()}


def state_to_number(state: RunState) -> pb.RunState.ValueType:
    """Returns the enum value of a state."""
    return _STATES[state]


def state_from_number(number: int, *, field: str) -> RunState:
    """Returns the state of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    state = _STATE_BY_NUMBER.get(pb.RunState.ValueType(number))
    if state is None:
        raise unknown_enum(field, number, "RunState")
    return state


def cause_to_number(cause: TransitionCause) -> pb.TransitionCause.ValueType:
    """Returns the enum value of a cause."""
    return _CAUSES[cause]


def cause_from_number(number: int, *, field: str) -> TransitionCause:
    """Returns the cause of an enum value; raises InvalidArgument naming `field` for UNSPECIFIED and unknown ones."""
    cause = _CAUSE_BY_NUMBER.get(pb.TransitionCause.ValueType(number))
    if cause is None:
        raise unknown_enum(field, number, "TransitionCause")
    return cause


def timestamp_from_unix_ns(unix_ns: int) -> Timestamp:
    """Returns the moment as a Timestamp, exact; what lies outside the years 1 to 9999 is moved to the nearer end."""
    seconds, nanos = divmod(unix_ns, NS_PER_S)
    if seconds > TIMESTAMP_SECONDS_MAX:
        seconds, nanos = TIMESTAMP_SECONDS_MAX, NS_PER_S - 1
    return Timestamp(seconds=seconds, nanos=nanos)


def unix_ns_from_timestamp(timestamp: Timestamp) -> int:
    """Returns the moment in Unix nanoseconds, exact; 0 for an absent one."""
    return timestamp.seconds * NS_PER_S + timestamp.nanos


def optional_unix_ns(
    message: Message,
    field: str,
) -> int | None:
    """Returns the moment in the message's Timestamp field in Unix nanoseconds, or None if it is absent."""
    if not message.HasField(field):
        return None
    return unix_ns_from_timestamp(getattr(message, field))


def optional_duration_s(message: Message, field: str) -> float | None:
    """Returns the length of the message's Duration field in seconds, or None if it is absent."""
    if not message.HasField(field):
        return None
    return float(getattr(message, field).ToNanoseconds() / NS_PER_S)


def duration_from_s(duration_s: float) -> Duration:
    """Returns the Duration nearest to `duration_s`, to the nanosecond."""
    duration = Duration()
    duration.FromNanoseconds(round(duration_s * NS_PER_S))
    return duration


def transition_to_message(transition: RunTransition) -> pb.RunTransition:
    """Returns the transition as a message."""
    before = transition.from_state
    message = pb.RunTransition(
        to=state_to_number(transition.to_state),
        cause=cause_to_number(transition.cause),
        evidence=transition.evidence,
        actor=transition.actor,
        record_time=timestamp_from_unix_ns(transition.record_time_unix_ns),
        attempt=transition.attempt,
    )
    if before is not None:
        setattr(message, "from", state_to_number(before))
    return message


def transition_from_message(message: pb.RunTransition) -> RunTransition:
    """Returns the transition that the message holds."""
    before = getattr(message, "from")
    return RunTransition(
        from_state=state_from_number(before, field="from") if before else None,
        to_state=state_from_number(message.to, field="to"),
        cause=cause_from_number(message.cause, field="cause"),
        evidence=message.evidence,
        actor=message.actor,
        record_time_unix_ns=unix_ns_from_timestamp(message.record_time),
        attempt=message.attempt,
    )


def optional_timestamp(unix_ns: int | None) -> Timestamp | None:
    """Returns the moment as a Timestamp; None for None."""
    return None if unix_ns is None else timestamp_from_unix_ns(unix_ns)


def unknown_enum(field: str, number: int, enum_name: str) -> InvalidArgument:
    """Returns the error for a number that no value of the enum has."""
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} is {number}, which is no value of {enum_name} that may be sent",
        metadata={"field": field, "value": number},
    )
