"""Unary calls over gRPC, as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from runyard.agent.retry import TIMED_OUT, UNREACHABLE
from runyard.agent.status import DETAILS_KEY, error_of_status
from runyard.errors import Error, InvalidArgument, Unavailable, error_of

MESSAGE_BYTES_MAX = 64 << 20
OPTIONS = (
    # Noticed within 40 s that a server froze; deadlines of calls notice earlier.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # the agent repeats, nobody else
)
_NO_ANSWER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)
"""Codes that gRPC itself makes of a broken connection."""


class GrpcCalls:
    """Carries calls over one channel."""

    def __init__(self, address: str, *, is_tls: bool, headers: Mapping[str, str]) -> None:
        self._address = address
        self._metadata = tuple(headers.items())
        options = list(OPTIONS)
        self._channel = (
            grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), options=options)
            if is_tls
            else grpc.aio.insecure_channel(address, options=options)
        )
        self._calls: dict[str, Any] = {}

    async def ready(self) -> None:
        """Returns when the server was reached; waits as long as it takes."""
        await self._channel.channel_ready()

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        """Returns the reply's bytes; raises runyard.errors.Error."""
        call = self._calls.get(method)
        if call is None:
            call = self._calls[method] = self._channel.unary_unary(method)
        try:
            reply: bytes = await call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _error(error, self._address) from None
        return reply

    async def close(self, *, grace_s: float | None = None) -> None:
        """Ends the channel; calls in flight have `grace_s` to end, then they are cancelled, and those who wait for them."""
        await self._channel.close(grace_s)


def _error(error: grpc.aio.AioRpcError, address: str) -> Error:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            told = error_of_status(value)
            if told is not None:
                return told
    code, said = error.code(), error.details() or "no reason given"
    if code in _NO_ANSWER:
        return Unavailable(f"the server at {address} does not answer: {said}", reason=UNREACHABLE)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"the server at {address} did not answer in time", reason=TIMED_OUT)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:  # gRPC's own: the message is too large
        return InvalidArgument(said, reason="FIELD_TOO_LARGE")
    return error_of(code.name, said)
