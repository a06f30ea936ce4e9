"""Unary calls over HTTP: the Connect protocol's headers, bodies, limits and errors."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import grpc
import grpc.aio
import pytest

from runyard_protos.query.v1 import query_pb2
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import NotFound
from runyard_server.gateway.replies import CONNECT_CODES
from runyard_server.gateway.transcode import find_methods
from runyard_server.gateway.unary import UnaryEdge
from runyard_server.rpc.errors import DETAILS_KEY, to_status
from tests.unit.gateway.asgi import Reply, app_of, send

PATH = "/runyard.query.v1.QueryService/QueryRuns"
JSON = {"content-type": "application/json"}
PROTO = {"content-type": "application/proto"}
METHODS = find_methods()


class Recorder:
    """A forwarder that remembers what it was given and answers as told."""

    def __init__(self, reply: bytes = b"", error: Exception | None = None) -> None:
        self.reply = reply
        self.error = error
        self.calls: list[dict[str, Any]] = []
        self.gate: asyncio.Event | None = None

    async def forward(
        self, service: str, method_path: str, body: bytes, *, timeout_s: float, request_id: str
    ) -> bytes:
        self.calls.append(
            {
                "service": service,
                "path": method_path,
                "body": body,
                "timeout_s": timeout_s,
                "request_id": request_id,
            }
        )
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.reply


def edge(forwarder: Recorder, **limits: Any) -> UnaryEdge:
    settings: dict[str, Any] = {
        "request_bytes_max": 4096,
        "body_limit_s": 30.0,
        "in_flight_max": 2,
        "timeout_default_s": 30.0,
        "timeout_max_s": 120.0,
        **limits,
    }
    return UnaryEdge(METHODS, forwarder, clock=SystemClock(), **settings)


async def post(
    forwarder: Recorder, body: bytes, headers: dict[str, str], path: str = PATH, **limits: Any
) -> Reply:
    unary = edge(forwarder, **limits)
    try:
        return await send(app_of(unary.answer), "POST", path, body=body, headers=headers)
    finally:
        unary.close()


async def test_json_is_forwarded_as_a_message() -> None:
    """The service gets the message that the JSON says; the answer is JSON."""
    reply = query_pb2.QueryRunsResponse(total_count=2**60)
    recorder = Recorder(reply.SerializeToString())
    answer = await post(recorder, b'{"projectPath": "a/b"}', {**JSON, "x-request-id": "my-id"})
    call = recorder.calls[0]
    assert query_pb2.QueryRunsRequest.FromString(call["body"]).project_path == "a/b"
    assert (call["service"], call["path"], call["request_id"]) == ("query", PATH, "my-id")
    assert (answer.status, answer.json) == (200, {"totalCount": str(2**60)})
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"] == "my-id"


async def test_binary_is_forwarded_untouched() -> None:
    """Binary bodies are not parsed: even bytes that are no message go through both ways."""
    recorder = Recorder(b"\xff\xfe")
    answer = await post(recorder, b"\xff\xff", PROTO)
    assert recorder.calls[0]["body"] == b"\xff\xff"
    assert (answer.status, answer.body) == (200, b"\xff\xfe")
    assert answer.headers["content-type"] == "application/proto"


async def test_large_reply_is_converted_off_the_loop() -> None:
    """While a large reply becomes JSON the loop still turns."""
    series = query_pb2.Series(values=[0.1] * 200_000)
    recorder = Recorder(query_pb2.QuerySeriesResponse(series=[series]).SerializeToString())
    path = "/runyard.query.v1.QueryService/QuerySeries"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    answer = await post(recorder, b"{}", JSON, path)
    counting.cancel()
    assert len(answer.json["series"][0]["values"]) == 200_000
    assert turns > 10  # converted on the loop: 0


@pytest.mark.parametrize(
    ("asked", "given_s"), [("1500", 1.5), ("9999999999", 120.0), (None, 30.0), ("0", 0.0)]
)
async def test_timeout(asked: str | None, given_s: float) -> None:
    """Connect-Timeout-Ms is passed on, at most the limit; without it the default holds."""
    recorder = Recorder()
    await post(recorder, b"{}", JSON if asked is None else {**JSON, "connect-timeout-ms": asked})
    assert recorder.calls[0]["timeout_s"] == given_s


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"content-type": "text/plain"}, 415, "FIELD_INVALID"),
        ({}, 415, "FIELD_INVALID"),
        ({"content-type": "application/json; charset=latin-1"}, 415, "FIELD_INVALID"),
        ({**JSON, "connect-timeout-ms": "-1"}, 400, "FIELD_INVALID"),
        ({**JSON, "connect-timeout-ms": "12345678901"}, 400, "FIELD_INVALID"),
        ({**JSON, "connect-protocol-version": "2"}, 400, "FIELD_INVALID"),
        ({**JSON, "content-encoding": "br"}, 501, "FIELD_INVALID"),
        ({**JSON, "content-encoding": "gzip"}, 400, "FIELD_INVALID"),
        ({**JSON, "content-length": "99999"}, 429, "FIELD_TOO_LARGE"),
    ],
)
async def test_wrong_headers(headers: dict[str, str], status: int, reason: str) -> None:
    """Each wrong header is named in a Connect error, and nothing is forwarded."""
    recorder = Recorder()
    answer = await post(recorder, b"{}", headers)
    assert (answer.status, answer.reason) == (status, reason)
    assert recorder.calls == []


async def test_body_over_the_limit() -> None:
    """A body over the limit is refused while it streams, and so is one that unzips to more."""
    recorder = Recorder()
    large = b'{"projectPath": "' + b"a" * 5000 + b'"}'
    assert (await post(recorder, large, JSON)).reason == "FIELD_TOO_LARGE"
    bomb = gzip.compress(b" " * 10_000_000)
    assert (
        await post(recorder, bomb, {**JSON, "content-encoding": "gzip"}, request_bytes_max=20_000)
    ).reason == ("FIELD_TOO_LARGE")
    assert recorder.calls == []


async def test_gzip_body() -> None:
    """A zipped body is read as the plain one."""
    recorder = Recorder()
    body = gzip.compress(b'{"projectPath": "a/b"}')
    assert (await post(recorder, body, {**JSON, "content-encoding": "gzip"})).status == 200
    assert b"a/b" in recorder.calls[0]["body"]


async def test_truncated_gzip_body() -> None:
    """A zipped body that ends early is not taken for a shorter one."""
    body = gzip.compress(b'{"projectPath": "a/b"}')[:-4]
    answer = await post(Recorder(), body, {**JSON, "content-encoding": "gzip"})
    assert (answer.status, answer.reason) == (400, "FIELD_INVALID")


@pytest.mark.parametrize("path", ["/runyard.query.v1.QueryService/Nope", "/x/y", "/"])
async def test_unknown_method(path: str) -> None:
    """A path that is no method gets 404 and code unimplemented, as Connect clients expect."""
    answer = await post(Recorder(), b"{}", JSON, path)
    assert (answer.status, answer.json["code"]) == (404, "unimplemented")
    assert answer.reason == "METHOD_NOT_FOUND"


async def test_refusal_of_the_service_keeps_its_details() -> None:
    """The reason and metadata of a service's refusal reach the HTTP caller, also as JSON that can be read."""
    status = to_status(
        NotFound("RUN_NOT_FOUND", "there is no run a/b/c", metadata={"run": "a/b/c"})
    )
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND,
        grpc.aio.Metadata(),
        grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString())),
        details="there is no run a/b/c",
    )
    answer = await post(Recorder(error=error), b"{}", JSON)
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert answer.json["message"] == "there is no run a/b/c"
    assert answer.json["details"][0]["debug"]["metadata"] == {"run": "a/b/c"}


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
async def test_every_code_has_its_http_status(code: grpc.StatusCode) -> None:
    """A failure without details still names the code and the service."""
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="x")
    answer = await post(Recorder(error=error), b"{}", JSON)
    known = {name for name, _ in CONNECT_CODES.values()}
    assert answer.json["code"] in known
    assert answer.status >= 400


async def test_requests_beyond_the_limit() -> None:
    """With the limit in flight the next request is told to come back, with a Retry-After."""
    recorder = Recorder()
    recorder.gate = asyncio.Event()
    unary = edge(recorder)
    app = app_of(unary.answer)
    first = [
        asyncio.create_task(send(app, "POST", PATH, body=b"{}", headers=JSON)) for _ in range(2)
    ]
    while len(recorder.calls) < 2:
        await asyncio.sleep(0)
    refused = await send(app, "POST", PATH, body=b"{}", headers=JSON)
    assert (refused.status, refused.reason) == (429, "QUEUE_FULL")
    assert refused.headers["retry-after"] == "1"
    recorder.gate.set()
    assert [reply.status for reply in await asyncio.gather(*first)] == [200, 200]
    unary.close()


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    """A body that stays half-sent gets 408 and loses the connection; no service hears of it, and its place is free."""
    recorder = Recorder()
    unary = edge(recorder, body_limit_s=0.01, in_flight_max=1)
    for _ in range(2):
        reply = await send(app_of(unary.answer), "POST", PATH, body=b"{", headers=JSON, stalls=True)
        assert (reply.status, reply.json["code"]) == (408, "deadline_exceeded")
        assert (reply.reason, reply.headers["connection"]) == ("DEADLINE_EXCEEDED", "close")
    unary.close()
    assert recorder.calls == []
