"""Answers POST /package.Service/Method by the Connect unary protocol, forwarding to the service that owns the method."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import grpc.aio
from starlette.requests import Request
from starlette.responses import Response

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    DeadlineExceeded,
    DomainError,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
)
from runyard_server.gateway.replies import JSON_TYPE, error_reply, status_reply
from runyard_server.gateway.transcode import Method, decode_reply, encode_request
from runyard_server.rpc.calls import REQUEST_ID_KEY, accept_request_id
from runyard_server.rpc.errors import status_of_rpc_error

PROTO_TYPE: Final = "application/proto"
INLINE_BYTES_MAX: Final = 32 * 1024
"""Bodies up to this are converted on the loop: a thread would cost more than it spares."""
_TIMEOUT_MS = re.compile(r"[0-9]{1,10}")
_RETRY_DELAY_S: Final = 0.2

_Result = TypeVar("_Result")


class Forwarder(Protocol):
    """Carries bytes to a service and its answer back; rpc.siblings.Siblings is one."""

    async def forward(
        self, service: str, method_path: str, body: bytes, *, timeout_s: float, request_id: str
    ) -> bytes:
        """Returns the answer's bytes; raises grpc.aio.AioRpcError or a DomainError."""
        ...


class UnaryEdge:
    """Turns HTTP requests into unary calls."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        forwarder: Forwarder,
        *,
        clock: Clock,
        request_bytes_max: int,
        body_limit_s: float,
        in_flight_max: int,
        timeout_default_s: float,
        timeout_max_s: float,
    ) -> None:
        self._methods = methods
        self._forwarder = forwarder
        self._clock = clock
        self._request_bytes_max = request_bytes_max
        self._body_limit_s = body_limit_s
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._timeout_default_s = timeout_default_s
        self._timeout_max_s = timeout_max_s
        self._converters = ThreadPoolExecutor(max_workers=2, thread_name_prefix="transcode")

    def close(self) -> None:
        """Lets the conversion threads go."""
        self._converters.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request) -> Response:
        """Returns the answer, in any case one of the Connect protocol."""
        request_id = accept_request_id(request.headers.get(REQUEST_ID_KEY), self._clock)
        headers = {REQUEST_ID_KEY: request_id, "cache-control": "no-store"}
        method = self._methods.get(request.url.path)
        self._in_flight += 1
        try:
            if method is None:
                return error_reply(_unknown(request.url.path), http_status=404, headers=headers)
            if self._in_flight > self._in_flight_max:
                raise ResourceExhausted(
                    "QUEUE_FULL",
                    f"the gateway answers {self._in_flight_max} requests already, which is its limit; repeat",
                    metadata={"queue": "gateway", "limit": self._in_flight_max},
                    retry_delay_s=_RETRY_DELAY_S,
                )
            return await self._forward(method, request, request_id, headers)
        except BodyLate as error:
            # What is still to come of the body must not be taken for the next request.
            return error_reply(error, http_status=408, headers={**headers, "connection": "close"})
        except UnsupportedMediaType as error:
            return error_reply(error, http_status=415, headers=headers)
        except DomainError as error:
            return error_reply(error, headers=headers)
        except grpc.aio.AioRpcError as error:
            service = method.service if method is not None else ""
            return status_reply(status_of_rpc_error(error, service=service), headers=headers)
        finally:
            self._in_flight -= 1

    async def _forward(
        self, method: Method, request: Request, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        is_json = _body_kind(request)
        timeout_s = self._timeout_s(request)
        body = await self._read_body(request)
        if is_json:
            body = await self._convert(encode_request, method, body)
        reply = await self._forwarder.forward(
            method.service, method.path, body, timeout_s=timeout_s, request_id=request_id
        )
        if is_json:
            reply = await self._convert(decode_reply, method, reply)
        return Response(reply, media_type=JSON_TYPE if is_json else PROTO_TYPE, headers=headers)

    async def _convert(
        self, convert: Callable[[Method, bytes], _Result], method: Method, body: bytes
    ) -> _Result:
        if len(body) <= INLINE_BYTES_MAX:
            return convert(method, body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._converters, convert, method, body)

    def _timeout_s(self, request: Request) -> float:
        version = request.headers.get("connect-protocol-version", "1")
        if version != "1":
            raise _bad_header("connect-protocol-version", version, "1 is the only version")
        asked = request.headers.get("connect-timeout-ms")
        if asked is None:
            return self._timeout_default_s
        if not _TIMEOUT_MS.fullmatch(asked):
            raise _bad_header(
                "connect-timeout-ms", asked, "write a whole number of at most 10 digits"
            )
        return min(int(asked) / 1000, self._timeout_max_s)

    async def _read_body(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding not in ("identity", "gzip"):
            raise Unimplemented(
                "FIELD_INVALID",
                f"content-encoding {encoding[:64]!r} is not known: send gzip or none",
                metadata={"field": "content-encoding", "value": encoding[:64]},
            )
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._request_bytes_max:
            raise self._too_large(int(declared))
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_limit_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._request_bytes_max:
                        raise self._too_large(len(body))
        except TimeoutError as error:
            raise BodyLate(
                "DEADLINE_EXCEEDED",
                f"the body did not arrive within {self._body_limit_s:g} s, {len(body)} bytes of it came: repeat",
                metadata={"limit": f"{self._body_limit_s:g}", "value": len(body)},
            ) from error
        return self._unzip(bytes(body)) if encoding == "gzip" else bytes(body)

    def _unzip(self, body: bytes) -> bytes:
        unzip = zlib.decompressobj(wbits=31)
        try:
            plain = unzip.decompress(body, self._request_bytes_max + 1)
        except zlib.error as error:
            raise _bad_header(
                "content-encoding", "gzip", f"the body is not gzip: {error}"
            ) from error
        if len(plain) > self._request_bytes_max:
            raise self._too_large(len(plain))
        if not unzip.eof:
            raise _bad_header("content-encoding", "gzip", "the body ends too early")
        return plain

    def _too_large(self, size_bytes: int) -> ResourceExhausted:
        return ResourceExhausted(
            "FIELD_TOO_LARGE",
            f"the body has at least {size_bytes} bytes, at most {self._request_bytes_max} are taken: send less at once",
            metadata={"field": "body", "value": size_bytes, "limit": self._request_bytes_max},
        )


class BodyLate(DeadlineExceeded):
    """The body did not arrive in time."""


class UnsupportedMediaType(InvalidArgument):
    """The Content-Type is none that unary calls take."""


def _body_kind(request: Request) -> bool:
    """Returns whether the body is JSON (else binary); raises UnsupportedMediaType for other types."""
    given = request.headers.get("content-type", "")
    kind, _, parameter = (part.strip().lower() for part in given.partition(";"))
    if kind == PROTO_TYPE:
        return False
    if kind == JSON_TYPE and parameter.replace('"', "") in ("", "charset=utf-8"):
        return True
    raise UnsupportedMediaType(
        "FIELD_INVALID",
        f"content-type {given[:128]!r} is not taken: send {JSON_TYPE} or {PROTO_TYPE}",
        metadata={"field": "content-type", "value": given[:128]},
    )


def _unknown(path: str) -> Unimplemented:
    return Unimplemented(
        "METHOD_NOT_FOUND",
        f"there is no method {path[:256]!r} here: calls go to /package.Service/Method",
        metadata={"method": path[:256]},
    )


def _bad_header(field: str, value: str, rule: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} is {value[:64]!r}: {rule}",
        metadata={"field": field, "value": value[:64]},
    )
