"""What every method of every service passes: request id, deadline, limit in flight, errors; asked of each, found by descriptor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from runyard_server.domain.addresses import Address, parse_address
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
)
from runyard_server.gateway.transcode import Method, find_methods
from runyard_server.rpc.calls import current_call
from runyard_server.rpc.errors import from_rpc_error
from runyard_server.rpc.interceptors import EdgeConfig, EdgeInterceptor
from runyard_server.rpc.listener import Listener, ListenerConfig
from runyard_server.rpc.ports import PortTaken, listen, socket_address

METHODS = list(find_methods().values())
EDGE = EdgeConfig(deadline_default_s=0.2, deadline_max_s=0.4, in_flight_max=2)
Answer = Callable[[Any], Awaitable[Any]]


class EveryService:
    """Serves every method of the contracts with one answer, chosen by the test."""

    name = "every"

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        services: dict[str, dict[str, Any]] = {}
        for method in METHODS:
            service, name = method.path[1:].split("/")
            services.setdefault(service, {})[name] = grpc.unary_unary_rpc_method_handler(
                self._handle(method),
                request_deserializer=method.request_type.FromString,
                response_serializer=method.reply_type.SerializeToString,
            )
        for service, handlers in services.items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        return tuple(services)

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...

    def _handle(self, method: Method) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            if self.answer is not None:
                await self.answer(context)
            return method.reply_type()

        return handle


class Running:
    """A listener with every service behind it, and a channel to it."""

    def __init__(self, service: EveryService, address: Address, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.address = address
        self.channel = channel

    async def call(
        self, path: str, *, timeout_s: float | None = 5, body: bytes = b"", request_id: str = ""
    ) -> grpc.aio.Metadata | None:
        """Calls with raw bytes and returns the trailers; raises the domain error of a refusal."""
        metadata = (("x-request-id", request_id),) if request_id else ()
        call = self.channel.unary_unary(path)(body, timeout=timeout_s, metadata=metadata)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="every") from error
        return await call.trailing_metadata()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    service = EveryService()
    listener = Listener(ListenerConfig(), EDGE, clock=SystemClock())
    address = listener.bind(parse_address("127.0.0.1:0"), is_explicit=True)
    listener.register([service])
    await listener.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        yield Running(service, address, channel)
    await listener.stop(0)


each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)


@each_method
async def test_request_id_is_kept_and_told(running: Running, method: Method) -> None:
    """The caller's request id is the one that the handler sees and the trailers carry."""
    seen: list[str] = []

    async def remember(context: Any) -> None:
        call = current_call()
        assert call is not None
        seen.append(call.request_id)

    running.service.answer = remember
    trailers = await running.call(method.path, request_id="abc-123")
    assert trailers is not None and trailers["x-request-id"] == "abc-123"
    assert seen == ["abc-123"]


@each_method
async def test_deadline_is_given_to_callers_without_one(running: Running, method: Method) -> None:
    """A call that brings no deadline gets the default, and an error that names the method when it passes."""
    running.service.answer = _hang
    with pytest.raises(DeadlineExceeded) as caught:
        await running.call(method.path, timeout_s=None)
    assert caught.value.metadata["method"] == method.path


@each_method
async def test_domain_errors_cross_with_reason_and_delay(running: Running, method: Method) -> None:
    """A refusal comes back as the same class with reason, metadata and delay."""

    async def refuse(context: Any) -> None:
        raise ResourceExhausted("QUEUE_FULL", "full", metadata={"limit": 3}, retry_delay_s=0.25)

    running.service.answer = refuse
    with pytest.raises(ResourceExhausted) as caught:
        await running.call(method.path)
    error = caught.value
    assert (error.reason, error.metadata, error.retry_delay_s) == (
        "QUEUE_FULL",
        {"limit": "3"},
        0.25,
    )


@each_method
async def test_bugs_become_internal_and_are_logged_once(
    running: Running, method: Method, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen exception, an assertion too, tells the caller only a request id; the log has the rest, once."""

    async def fail(context: Any) -> None:
        assert False, "secret detail"  # noqa: B011

    running.service.answer = fail
    with caplog.at_level(logging.ERROR, "runyard"), pytest.raises(Internal) as caught:
        await running.call(method.path, request_id="find-me")
    assert caught.value.metadata == {"request_id": "find-me"}
    assert "secret" not in caught.value.message
    logged = [r for r in caplog.records if r.message == "request_failed"]
    assert len(logged) == 1
    assert logged[0].exc_info is not None


async def test_long_deadlines_are_cut(running: Running) -> None:
    """A caller cannot hold a handler longer than the server allows."""
    running.service.answer = _hang
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(running.call(METHODS[0].path, timeout_s=60), 5)


async def test_calls_beyond_the_limit_are_refused_with_a_delay(running: Running) -> None:
    """With the limit in flight, the next call is told to come back; the ones inside are answered."""
    inside, release = asyncio.Semaphore(0), asyncio.Event()

    async def wait(context: Any) -> None:
        inside.release()
        await release.wait()

    running.service.answer = wait
    path = METHODS[0].path
    first = [asyncio.create_task(running.call(path)) for _ in range(EDGE.in_flight_max)]
    for _ in first:
        await inside.acquire()
    with pytest.raises(ResourceExhausted) as caught:
        await running.call(path)
    assert caught.value.retry_delay_s == EDGE.retry_delay_s
    release.set()
    await asyncio.gather(*first)


async def test_refusals_are_counted_before_the_caller_sees_them(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the status goes out, the call is in the counters and no longer in flight."""
    labels = {"method": METHODS[0].path, "code": "INVALID_ARGUMENT"}
    before = REGISTRY.get_sample_value("runyard_rpc_requests_total", labels) or 0
    seen: list[tuple[float, float | None]] = []
    refuse = EdgeInterceptor._refuse

    async def look_then_refuse(self: EdgeInterceptor, *given: Any) -> None:
        counted = REGISTRY.get_sample_value("runyard_rpc_requests_total", labels) or 0
        seen.append((counted - before, REGISTRY.get_sample_value("runyard_rpc_in_flight")))
        await refuse(self, *given)

    monkeypatch.setattr(EdgeInterceptor, "_refuse", look_then_refuse)
    with pytest.raises(InvalidArgument):
        await running.call(METHODS[0].path, body=b"\xff\xff\xff")
    assert seen == [(1, 0)]


async def test_unknown_methods_are_told(running: Running) -> None:
    """A method that does not exist gets a reason of ours, and does not make a label of its own."""
    with pytest.raises(Unimplemented) as caught:
        await running.call("/runyard.query.v1.QueryService/Nothing")
    assert caught.value.reason == "METHOD_NOT_FOUND"
    labels = {"method": "unknown", "code": "UNIMPLEMENTED"}
    assert (REGISTRY.get_sample_value("runyard_rpc_requests_total", labels) or 0) >= 1


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", 'a"b'])
async def test_strange_request_ids_are_replaced(running: Running, request_id: str) -> None:
    """What could spoil a log line or a label is not taken over."""
    trailers = await running.call(METHODS[0].path, request_id=request_id)
    assert trailers is not None and trailers["x-request-id"] != request_id
    assert len(str(trailers["x-request-id"])) == 16


async def test_body_that_is_no_message(running: Running) -> None:
    """Bytes that do not parse are the caller's fault, with a reason, and leave the server serving."""
    with pytest.raises(InvalidArgument) as caught:
        await running.call(METHODS[0].path, body=b"\xff\xff\xff")
    assert caught.value.reason == "BODY_MALFORMED"
    await running.call(METHODS[0].path)


async def test_health_and_reflection_know_every_service(running: Running) -> None:
    """grpcurl-like tools find the services; health answers for each, and is not bound by the limit in flight."""
    names = {method.path[1:].split("/")[0] for method in METHODS}
    health = health_pb2_grpc.HealthStub(running.channel)
    for name in ("", *names):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    replies = stub.ServerReflectionInfo(iter([asked]), timeout=5)
    async for reply in replies:
        assert names <= {service.name for service in reply.list_services_response.service}


async def test_taken_port_names_its_holder() -> None:
    """A port that was asked for and is taken is refused with the pid that holds it; a default one is replaced."""
    with listen(Address("127.0.0.1", 0)) as held:
        taken = socket_address(held)
        listener = Listener(ListenerConfig(), EDGE, clock=SystemClock())
        with pytest.raises(PortTaken, match=r"held by pid \d+, started as"):
            listener.bind(taken, is_explicit=True)
        assert listener.bind(taken, is_explicit=False).port not in (0, taken.port)
        await listener.stop(0)


async def _hang(context: Any) -> None:
    await asyncio.Event().wait()
