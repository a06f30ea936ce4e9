"""What every call of every service passes: request id, deadline, limit in flight, counters, errors to statuses."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from runyard_server import telemetry
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from runyard_server.rpc.calls import REQUEST_ID_KEY, Call, accept_request_id, enter_call
from runyard_server.rpc.errors import DETAILS_KEY, status_code, to_status

log = logging.getLogger("runyard.rpc")

UNKNOWN_METHOD: Final = "unknown"
"""Label of calls to methods that do not exist: their names are the caller's, and labels must stay few."""
_UNLIMITED_PREFIXES: Final = ("/grpc.health.", "/grpc.reflection.")

Behaviour = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Limits of every call."""

    deadline_default_s: float = 30.0
    """Deadline of a unary call that brings none."""
    deadline_max_s: float = 120.0
    """Longest deadline that a unary call gets, whatever it asks for."""
    in_flight_max: int = 2048
    """Calls answered at once; further ones get RESOURCE_EXHAUSTED and a delay."""
    retry_delay_s: float = 0.2
    """The delay told to refused calls."""


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Stands before every handler of a listener; translates errors once, here."""

    def __init__(self, config: EdgeConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._in_flight = 0
        self.is_stopping = False
        """Set when the listener is about to close: new calls get UNAVAILABLE STOPPING."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Returns the handler of the method, wrapped; for an unknown method one that says so."""
        method = str(handler_call_details.method)
        handler = await continuation(handler_call_details)
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap(_refuse_unknown(method), method, is_known=False)
            )
        given = _metadata_value(handler_call_details.invocation_metadata, REQUEST_ID_KEY)
        return self._wrap_handler(handler, method, given)

    def _wrap_handler(self, handler: Any, method: str, given_id: str | None) -> Any:
        make, behaviour = _parts(handler)
        wrapped = self._wrap(
            behaviour,
            method,
            given_id=given_id,
            is_unary=not handler.request_streaming and not handler.response_streaming,
            is_response_streaming=handler.response_streaming,
        )
        return make(
            wrapped,
            request_deserializer=(
                handler.request_deserializer
                if handler.request_streaming
                else _telling(handler.request_deserializer)
            ),
            response_serializer=handler.response_serializer,
        )

    def _wrap(
        self,
        behaviour: Behaviour,
        method: str,
        *,
        given_id: str | None = None,
        is_unary: bool = True,
        is_response_streaming: bool = False,
        is_known: bool = True,
    ) -> Behaviour:
        label = method if is_known else UNKNOWN_METHOD
        is_limited = not method.startswith(_UNLIMITED_PREFIXES)

        async def answer(request: Any, context: Any) -> Any:
            call = self._begin(method, given_id, context, is_unary=is_unary)
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
            started_s = self._clock.monotonic_s()
            code = grpc.StatusCode.OK.name
            refusal: DomainError
            self._in_flight += 1
            telemetry.RPC_IN_FLIGHT.set(self._in_flight)
            try:
                if is_limited:
                    self._admit(method)
                return await self._bounded(
                    _invoke(behaviour, request, context, is_response_streaming), call
                )
            except grpc.aio.AbortError:
                code = "ABORTED_BY_HANDLER"
                raise
            except DomainError as error:
                code, refusal = status_code(error).name, error
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED.name
                raise
            except NotImplementedError:
                # What the generated servicers raise for a method of the contract that this server does not have.
                code, refusal = grpc.StatusCode.UNIMPLEMENTED.name, _unknown(method)
            except Exception:
                code = grpc.StatusCode.INTERNAL.name
                log.exception(
                    telemetry.EVENT_REQUEST_FAILED,
                    extra={"fields": {"method": method, "request_id": call.request_id}},
                )
                refusal = _internal(call)
            finally:
                self._in_flight -= 1
                telemetry.RPC_IN_FLIGHT.set(self._in_flight)
                telemetry.RPC_REQUESTS.labels(label, code).inc()
                if is_unary:
                    telemetry.RPC_SECONDS.labels(label).observe(
                        self._clock.monotonic_s() - started_s
                    )
            # Only now, counted: whoever saw the status finds the call in the counters.
            await self._refuse(context, call, label, refusal)

        return answer

    def _begin(self, method: str, given_id: str | None, context: Any, *, is_unary: bool) -> Call:
        remaining_s: float | None = context.time_remaining()
        if is_unary:
            asked_s = self._config.deadline_default_s if remaining_s is None else remaining_s
            remaining_s = min(asked_s, self._config.deadline_max_s)
        deadline_s = None if remaining_s is None else self._clock.monotonic_s() + remaining_s
        call = Call(accept_request_id(given_id, self._clock), method, deadline_s)
        enter_call(call)
        return call

    def _admit(self, method: str) -> None:
        if self.is_stopping:
            raise Unavailable(
                "STOPPING",
                "the server is stopping; repeat",
                retry_delay_s=self._config.retry_delay_s,
            )
        if self._in_flight > self._config.in_flight_max:
            raise ResourceExhausted(
                "QUEUE_FULL",
                f"the server answers {self._config.in_flight_max} calls already, which is its limit; repeat",
                metadata={"queue": "calls", "limit": self._config.in_flight_max, "method": method},
                retry_delay_s=self._config.retry_delay_s,
            )

    async def _bounded(self, answering: Awaitable[Any], call: Call) -> Any:
        if call.deadline_monotonic_s is None:
            return await answering
        limit_s = max(call.deadline_monotonic_s - self._clock.monotonic_s(), 0.0)
        scope = asyncio.timeout(limit_s)
        try:
            async with scope:
                return await answering
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise DeadlineExceeded(
                "DEADLINE_EXCEEDED",
                f"{call.method} took longer than the {limit_s:.3g} s it had",
                metadata={"method": call.method, "limit": f"{limit_s:.3f}"},
            ) from error

    async def _refuse(self, context: Any, call: Call, label: str, error: DomainError) -> None:
        telemetry.RPC_REFUSED.labels(label, error.reason).inc()
        status = to_status(error)
        if log.isEnabledFor(logging.DEBUG):
            fields = {"method": call.method, "request_id": call.request_id, "reason": error.reason}
            log.debug(telemetry.EVENT_REQUEST_REFUSED, extra={"fields": fields})
        await context.abort(
            status_code(error),
            status.message,
            trailing_metadata=(
                (DETAILS_KEY, status.SerializeToString()),
                (REQUEST_ID_KEY, call.request_id),
            ),
        )


@dataclass(frozen=True, slots=True)
class _Malformed:
    """Stands for a request whose bytes are no message."""

    problem: str


def _telling(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Returns a deserializer that does not raise: gRPC would make status UNKNOWN and a traceback of it."""
    if deserialize is None:
        return None

    def read(body: bytes) -> Any:
        try:
            return deserialize(body)
        except DecodeError as error:
            return _Malformed(str(error)[:512])

    return read


def _parts(handler: Any) -> tuple[Callable[..., Any], Behaviour]:
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler, handler.stream_stream
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler, handler.stream_unary
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler, handler.unary_stream
    return grpc.unary_unary_rpc_method_handler, handler.unary_unary


async def _invoke(
    behaviour: Behaviour, request: Any, context: Any, is_response_streaming: bool
) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidArgument("BODY_MALFORMED", f"the request does not parse: {request.problem}")
    result = behaviour(request, context)
    if is_response_streaming and hasattr(result, "__aiter__"):
        async for item in result:
            await context.write(item)
        return None
    return await result if inspect.isawaitable(result) else result


def _refuse_unknown(method: str) -> Behaviour:
    async def refuse(request: Any, context: Any) -> Any:
        raise _unknown(method)

    return refuse


def _unknown(method: str) -> Unimplemented:
    return Unimplemented(
        "METHOD_NOT_FOUND",
        f"there is no method {method[:256]!r} here; reflection lists what there is",
        metadata={"method": method[:256]},
    )


def _internal(call: Call) -> Internal:
    return Internal(
        "INTERNAL",
        f"a bug of the server; its log tells more under request id {call.request_id}",
        metadata={"request_id": call.request_id},
    )


def _metadata_value(metadata: Any, key: str) -> str | None:
    for found, value in metadata or ():
        if found == key:
            return value if isinstance(value, str) else None
    return None
