"""Errors as the Connect unary protocol writes them: code, message and details in JSON, with the HTTP status that goes with it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from starlette.responses import Response

from runyard_server.domain.errors import DomainError
from runyard_server.rpc.errors import to_status

JSON_TYPE: Final = "application/json"

# https://connectrpc.com/docs/protocol#error-codes
CONNECT_CODES: Final[dict[int, tuple[str, int]]] = {
    grpc.StatusCode.CANCELLED.value[0]: ("canceled", 499),
    grpc.StatusCode.UNKNOWN.value[0]: ("unknown", 500),
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: ("invalid_argument", 400),
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0]: ("deadline_exceeded", 504),
    grpc.StatusCode.NOT_FOUND.value[0]: ("not_found", 404),
    grpc.StatusCode.ALREADY_EXISTS.value[0]: ("already_exists", 409),
    grpc.StatusCode.PERMISSION_DENIED.value[0]: ("permission_denied", 403),
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: ("resource_exhausted", 429),
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: ("failed_precondition", 400),
    grpc.StatusCode.ABORTED.value[0]: ("aborted", 409),
    grpc.StatusCode.OUT_OF_RANGE.value[0]: ("out_of_range", 400),
    grpc.StatusCode.UNIMPLEMENTED.value[0]: ("unimplemented", 501),
    grpc.StatusCode.INTERNAL.value[0]: ("internal", 500),
    grpc.StatusCode.UNAVAILABLE.value[0]: ("unavailable", 503),
    grpc.StatusCode.DATA_LOSS.value[0]: ("data_loss", 500),
    grpc.StatusCode.UNAUTHENTICATED.value[0]: ("unauthenticated", 401),
}


def error_reply(
    error: DomainError, *, http_status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns the answer that tells of a domain error; `http_status` replaces the one that goes with its code."""
    return status_reply(to_status(error), http_status=http_status, headers=headers)


def status_reply(
    status: status_pb2.Status,
    *,
    http_status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns the answer that tells of a failed call."""
    code, usual_status = CONNECT_CODES.get(status.code, ("unknown", 500))
    details, retry_delay_s = _details(status)
    body = {"code": code, "message": status.message, "details": details}
    extra = dict(headers or {})
    if retry_delay_s is not None:
        extra["retry-after"] = str(max(math.ceil(retry_delay_s), 1))
    extra["cache-control"] = "no-store"
    return Response(
        json.dumps(body, ensure_ascii=False).encode(),
        status_code=http_status or usual_status,
        media_type=JSON_TYPE,
        headers=extra,
    )


def _details(status: status_pb2.Status) -> tuple[list[dict[str, Any]], float | None]:
    details, retry_delay_s = list[dict[str, Any]](), None
    for packed in status.details:
        name = packed.type_url.rpartition("/")[2]
        detail: dict[str, Any] = {
            "type": name,
            # The protocol wants standard base64 without padding.
            "value": base64.b64encode(packed.value).decode().rstrip("="),
        }
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RetryInfo,
            error_details_pb2.BadRequest,
        ):
            message = kind()
            if packed.Is(message.DESCRIPTOR) and packed.Unpack(message):
                detail["debug"] = json_format.MessageToDict(message)
                if isinstance(message, error_details_pb2.RetryInfo):
                    retry_delay_s = message.retry_delay.ToNanoseconds() / 1e9
        details.append(detail)
    return details, retry_delay_s
