"""Domain errors cross the wire and come back the same."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import DomainError, Internal, InvalidArgument, Unavailable
from runyard_server.rpc.errors import (
    CODES,
    DETAILS_KEY,
    METADATA_VALUE_LENGTH_MAX,
    from_rpc_error,
    from_status,
    status_code,
    to_status,
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def rpc_error(
    code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str | bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details
    )


@pytest.mark.parametrize("kind", list(CODES))
@given(
    message=WORDS,
    metadata=st.dictionaries(WORDS, WORDS, max_size=4),
    delay_ms=st.none() | st.integers(0, 10**7),
)
def test_round_trip(
    kind: type[DomainError], message: str, metadata: dict[str, str], delay_ms: int | None
) -> None:
    """Class, reason, message, metadata and delay of every error survive the way to a status and back."""
    delay_s = None if delay_ms is None else delay_ms / 1000
    error = kind("QUEUE_FULL", message, metadata=metadata, retry_delay_s=delay_s)
    wire = to_status(error).SerializeToString()
    back = from_status(status_pb2.Status.FromString(wire))
    assert type(back) is kind
    assert (back.reason, back.message, back.metadata) == ("QUEUE_FULL", message, metadata)
    assert back.retry_delay_s == (None if delay_s is None else pytest.approx(delay_s, abs=1e-9))


def test_every_domain_error_has_a_code() -> None:
    """No direct subclass of DomainError falls back to INTERNAL by being forgotten."""
    assert set(DomainError.__subclasses__()) <= set(CODES)


def test_subclass_uses_its_ancestors_code() -> None:
    """A service's own subclass is sent under the code of the class it refines."""

    class Refined(InvalidArgument):
        pass

    assert status_code(Refined("FIELD_INVALID", "x")) is grpc.StatusCode.INVALID_ARGUMENT


def test_invalid_argument_names_its_field_as_google_does() -> None:
    """An InvalidArgument with a field carries BadRequest too, for clients that know only google's details."""
    error = InvalidArgument("FIELD_INVALID", "page_size is -1", metadata={"field": "page_size"})
    request = error_details_pb2.BadRequest()
    found = [d for d in to_status(error).details if d.Unpack(request)]
    assert len(found) == 1
    assert request.field_violations[0].field == "page_size"


def test_long_values_are_cut() -> None:
    """A huge value in the metadata cannot push the trailers over gRPC's limit."""
    error = InvalidArgument("FIELD_INVALID", "m" * 10**6, metadata={"value": "v" * 10**6})
    assert len(to_status(error).SerializeToString()) < 8_192
    back = from_status(to_status(error))
    assert len(back.metadata["value"]) == METADATA_VALUE_LENGTH_MAX


def test_failed_call_with_details_becomes_the_error_that_was_raised() -> None:
    """What a sibling refused is raised here as the same error."""
    sent = InvalidArgument("FIELD_INVALID", "wrong", metadata={"field": "x"})
    trailing = ((DETAILS_KEY, to_status(sent).SerializeToString()),)
    back = from_rpc_error(
        rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "wrong", trailing), service="metadata"
    )
    assert (type(back), back.metadata) == (InvalidArgument, {"field": "x"})


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.UNKNOWN, Internal, "INTERNAL"),
    ],
)
def test_failed_call_without_details(
    code: grpc.StatusCode, kind: type[DomainError], reason: str
) -> None:
    """What gRPC itself failed names the service that was asked."""
    back = from_rpc_error(rpc_error(code, "connection refused"), service="metadata")
    assert (type(back), back.reason) == (kind, reason)
    assert back.metadata == {"service": "metadata"}
    assert "metadata" in back.message


def test_garbage_in_the_details_is_not_believed() -> None:
    """Trailers that are no Status are passed over."""
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, "down", ((DETAILS_KEY, b"\xff\xff\xff"),))
    assert isinstance(from_rpc_error(error, service="files"), Unavailable)
