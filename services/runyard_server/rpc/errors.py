"""Turns domain errors into gRPC statuses and back; the only place that does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from runyard_server.domain.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

DOMAIN: Final = "runyard"
DETAILS_KEY: Final = "grpc-status-details-bin"
METADATA_VALUE_LENGTH_MAX: Final = 512
"""Trailers share the 16 KiB that gRPC allows for all of them: a long value is cut."""
MESSAGE_LENGTH_MAX: Final = 2048

CODES: Final[dict[type[DomainError], grpc.StatusCode]] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Aborted: grpc.StatusCode.ABORTED,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    DataLoss: grpc.StatusCode.DATA_LOSS,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    Internal: grpc.StatusCode.INTERNAL,
}
_CLASSES: Final = {code: kind for kind, code in CODES.items()}
_CODE_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


def status_code(error: DomainError) -> grpc.StatusCode:
    """Returns the gRPC code of a domain error, by its class or the nearest ancestor that has one."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: DomainError) -> status_pb2.Status:
    """Returns the error as google.rpc.Status with ErrorInfo, and RetryInfo and BadRequest where they apply."""
    metadata = {key: value[:METADATA_VALUE_LENGTH_MAX] for key, value in error.metadata.items()}
    message = error.message[:MESSAGE_LENGTH_MAX]
    details = [
        _pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    ]
    if error.retry_delay_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_delay_s * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    if isinstance(error, InvalidArgument) and error.metadata.get("field"):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=metadata["field"], description=message
        )
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    code: int = status_code(error).value[0]
    return status_pb2.Status(code=code, message=message, details=details)


def from_status(status: status_pb2.Status) -> DomainError:
    """Returns the domain error that the status tells of; a status without our ErrorInfo gets a reason by its code."""
    code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, metadata, retry_delay_s = _default_reason(code), dict[str, str](), None
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            retry_delay_s = retry.retry_delay.ToNanoseconds() / 1e9
    kind = _CLASSES.get(code, Internal)
    return kind(reason, status.message, metadata=metadata, retry_delay_s=retry_delay_s)


def from_rpc_error(error: grpc.aio.AioRpcError, *, service: str) -> DomainError:
    """Returns the domain error of a failed call to `service`."""
    return from_status(status_of_rpc_error(error, service=service))


def status_of_rpc_error(error: grpc.aio.AioRpcError, *, service: str) -> status_pb2.Status:
    """Returns the status of a failed call to `service`, with details as sent or, where gRPC itself failed it, our own."""
    sent = _read_details(error.trailing_metadata())
    if sent is not None:
        return sent
    code, said = error.code(), error.details() or "no reason given"
    if code is grpc.StatusCode.UNAVAILABLE:
        message = f"service {service!r} does not answer: {said}; repeat later"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"service {service!r} did not answer in time"
    else:
        message = f"service {service!r} failed the call: {said}"
    kind = _CLASSES.get(code, Internal)
    return to_status(kind(_default_reason(code), message, metadata={"service": service}))


def _default_reason(code: grpc.StatusCode) -> str:
    return {
        grpc.StatusCode.UNAVAILABLE: "SERVICE_UNAVAILABLE",
        grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
        grpc.StatusCode.UNIMPLEMENTED: "METHOD_NOT_FOUND",
        grpc.StatusCode.RESOURCE_EXHAUSTED: "FIELD_TOO_LARGE",
        grpc.StatusCode.INVALID_ARGUMENT: "FIELD_INVALID",
        grpc.StatusCode.UNAUTHENTICATED: "CREDENTIALS_MISSING",
    }.get(code, "INTERNAL")


def _read_details(
    metadata: Iterable[tuple[str, str | bytes]] | None,
) -> status_pb2.Status | None:
    for key, value in metadata or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _pack(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.RetryInfo
    | error_details_pb2.BadRequest,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
