"""The HTTP listener on a real socket: requests that never arrive whole lose their connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response

from runyard_server.domain.addresses import Address, parse_address
from runyard_server.domain.clock import SystemClock
from runyard_server.gateway.transcode import find_methods
from runyard_server.gateway.unary import UnaryEdge
from runyard_server.process.http_connections import BoundedConnection
from runyard_server.process.http_edge import HttpEdge

PATH = "/runyard.query.v1.QueryService/QueryRuns"
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
GUARD_S = 10


class Nobody:
    """A forwarder that nothing should reach, but whole requests."""

    async def forward(
        self, service: str, method_path: str, body: bytes, *, timeout_s: float, request_id: str
    ) -> bytes:
        return b""


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Address]:
    monkeypatch.setattr(BoundedConnection, "arrival_limit_s", 0.3)
    unary = UnaryEdge(
        find_methods(),
        Nobody(),
        clock=SystemClock(),
        request_bytes_max=4096,
        body_limit_s=0.5,
        in_flight_max=2,
        timeout_default_s=30.0,
        timeout_max_s=120.0,
    )

    async def answer(request: Request) -> Response:
        return await unary.answer(request)

    edge = HttpEdge(
        clock=SystemClock(),
        parts=(),
        effective_config=dict,
        addresses=dict,
        gateway=answer,
    )
    bound = edge.bind(parse_address("127.0.0.1:0"), is_explicit=True)
    await edge.start()
    yield bound
    await edge.stop(1)
    unary.close()


async def exchange(address: Address, sent: str) -> bytes:
    """Sends that much, and returns all that comes until the server closes."""
    async with asyncio.timeout(GUARD_S):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(sent.encode())
        found = await reader.read()
        writer.close()
        await writer.wait_closed()
        return found


async def test_a_half_sent_body_is_refused_and_closed(address: Address) -> None:
    """The sender is told 408 with the Connect error, and the connection ends, not before the body's own limit."""
    found = await exchange(address, f"{HEAD}content-length: 100\r\n\r\n{{")
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b'"deadline_exceeded"' in body


@pytest.mark.parametrize("sent", ["", "POST ", HEAD], ids=["nothing", "a word", "half the headers"])
async def test_a_request_that_never_begins_is_closed(address: Address, sent: str) -> None:
    """Without whole headers there is nothing to answer: the connection ends."""
    assert await exchange(address, sent) == b""


async def test_a_body_that_nobody_reads_is_not_waited_for(address: Address) -> None:
    """A request answered by its headers alone gets its answer, and its unfinished body ends the connection."""
    head = "GET /ready HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n"
    found = await exchange(address, head + "ab")
    assert found.startswith(b"HTTP/1.1 200")


async def test_a_connection_in_use_stays(address: Address) -> None:
    """Whole requests on one connection are answered one after the other, also after a pause longer than the limit."""
    whole = f"{HEAD}content-length: 2\r\n\r\n{{}}".encode()
    async with asyncio.timeout(GUARD_S):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        for _ in range(2):
            writer.write(whole)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(2) == b"{}"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 2 * BoundedConnection.arrival_limit_s)
        writer.close()
        await writer.wait_closed()
