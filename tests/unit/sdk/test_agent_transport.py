"""The agent's calls: messages bit by bit as protobuf makes them, errors as the server means them, HTTP and gRPC alike."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from runyard.agent import messages
from runyard.agent.columns import RowTable
from runyard.agent.ports import Batch, Change, Ending, FilePart, SummaryChange
from runyard.agent.status import error_of_status
from runyard.agent.transport import ServerTransport, grpc_address
from runyard.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.metadata.v1 import metadata_pb2

BITS = st.integers(0, 2**64 - 1)


@given(
    rows=st.lists(st.tuples(BITS, BITS, BITS, BITS), min_size=1, max_size=20),
    first=st.integers(1, 2**40),
)
def test_columns_are_merged_as_protobuf_writes_them(
    rows: list[tuple[int, int, int, int]], first: int
) -> None:
    """A batch built from journal bytes parses to the same values, NaN payloads and all, as one built field by field."""
    words = np.array(rows, dtype="<u8")
    sequences = np.arange(first, first + len(rows), dtype="<u8")
    table = RowTable(("a", "b"), sequences, words)
    batch = Batch(2**63 + 5, 3, first, first + len(rows) - 1, [table, table], [])
    request = ingest_pb2.WriteBatchRequest.FromString(messages.write_batch_request(batch))
    assert list(request.metric_names) == ["a", "b"]
    assert (request.run_key, request.writer) == (2**63 + 5, 3)
    for message in request.tables:
        assert list(message.metric_indexes) == [0, 1]
        assert np.array(message.steps, dtype="<i8").tobytes() == words[:, 0].tobytes()
        assert np.array(message.times_unix_ns, dtype="<i8").tobytes() == words[:, 1].tobytes()
        assert list(message.sequences) == sequences.tolist()
        expected = words[:, 2:].T.tobytes()
        assert np.array(message.values).tobytes() == expected


def test_tables_share_names() -> None:
    """Key sets that overlap name each metric once."""
    words, sequences = np.zeros((1, 4), dtype="<u8"), np.array([1], dtype="<u8")
    tables = [RowTable(("a", "b"), sequences, words), RowTable(("b", "c"), sequences, words)]
    summary = [SummaryChange(1, "best", "1")]
    content = messages.write_batch_request(Batch(1, 1, 1, 1, tables, summary))
    request = ingest_pb2.WriteBatchRequest.FromString(content)
    assert list(request.metric_names) == ["a", "b", "c"]
    assert [list(table.metric_indexes) for table in request.tables] == [[0, 1], [1, 2]]
    assert request.summary_changes[0].key == "best"


def test_a_start_record_becomes_a_request() -> None:
    """Each field arrives; what has another type than it should is left out, not fatal."""
    start = {
        "request_id": "x" * 32,
        "project": "p",
        "config": {"big": 2**63, "nan": {"$float": "NaN"}},
        "resume": "must",
        "tags": ["a"],
        "start_time_unix_ns": 1_500_000_000_000_000_001,
        "host": {"hostname": "h", "pid": 4, "cpu_count": "many", "unheard_of": 1},
    }
    request = metadata_pb2.StartRunRequest.FromString(messages.start_run_request(start))
    assert json.loads(request.config_json) == start["config"]
    assert request.resume == metadata_pb2.RESUME_MODE_MUST
    assert (request.host.hostname, request.host.pid, request.host.cpu_count) == ("h", 4, 0)
    assert request.start_time.ToNanoseconds() == 1_500_000_000_000_000_001


def test_changes_and_ends_become_requests() -> None:
    """Absent and empty differ: no tags is a change, no word of tags is none."""
    changes = [
        Change(3, {"tags": [], "notes": ""}),
        Change(4, {"config_set": {"a": 1}, "config_removed": ["b"], "metric_definition": {"name": "l*", "summaries": ["min"]}}),
    ]  # fmt: skip
    request = metadata_pb2.ApplyRunChangesRequest.FromString(
        messages.apply_changes_request(1, 2, changes)
    )
    first, second = request.changes
    assert first.HasField("tags") and first.HasField("notes") and not first.HasField("display_name")
    assert json.loads(second.config_set_json) == {"a": 1} and not second.HasField("tags")
    assert list(second.config_removed_keys) == ["b"]
    assert (second.metric_definition.name, list(second.metric_definition.summaries)) == (
        "l*",
        ["min"],
    )
    evidence = "ü" * 20_000
    ending = Ending("PROCESS_VANISHED", None, evidence, 17, 9)
    finish = metadata_pb2.FinishRunRequest.FromString(messages.finish_run_request(1, 2, ending))
    assert finish.cause == metadata_pb2.TRANSITION_CAUSE_PROCESS_VANISHED
    assert not finish.HasField("exit_code") and finish.evidence == evidence[: 8 << 10]


def status_of(code: int, message: str, *details: Any) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


FULL = status_of(
    8,
    "the queue is full",
    error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="runyard", metadata={"limit": "64"}),
    error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
    error_details_pb2.BadRequest(),
)


def test_a_status_is_read_without_its_stubs() -> None:
    """Code, message, reason, metadata and delay come through; damage reads as None."""
    error = error_of_status(FULL.SerializeToString())
    assert isinstance(error, ResourceExhausted)
    assert (error.message, error.reason) == ("the queue is full", "QUEUE_FULL")
    assert (error.metadata, error.retry_delay_s) == ({"limit": "64"}, 1.5)
    assert error_of_status(b"\x1a\xff") is None


@given(content=st.binary(max_size=60))
def test_no_bytes_break_the_reading_of_a_status(content: bytes) -> None:
    """Whatever a server sends, an error or None comes back."""
    error_of_status(content)


@pytest.mark.parametrize(
    ("told", "base_url", "expected"),
    [
        ("127.0.0.1:8081", "http://127.0.0.1:8080", "127.0.0.1:8081"),
        ("0.0.0.0:8081", "http://yard.example:8080", "yard.example:8081"),
        ("[::]:8081", "http://[::1]:8080", "[::1]:8081"),
        ("grpc.example:443", "https://yard.example", "grpc.example:443"),
    ],
)
def test_a_listener_that_listens_everywhere_is_where_http_is(
    told: str, base_url: str, expected: str
) -> None:
    """The address of discovery is taken, but for one that names no host."""
    assert grpc_address(told, base_url) == expected


def test_no_grpc_address_is_told() -> None:
    """A server without gRPC is an error that is waited out, not a crash."""
    with pytest.raises(Unavailable):
        grpc_address("", "http://127.0.0.1:8080")


class Http(ThreadingHTTPServer):
    """A small gateway: answers with what `reply` gives, and with where gRPC is."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.grpc = ""
        self.reply: tuple[int, bytes] = (200, b"")
        self.seen: list[tuple[str, bytes, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Http)
        self._answer(200, json.dumps({"version": "1", "grpc": server.grpc}).encode())

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Http)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server.seen.append((self.path, body, dict(self.headers.items())))
        self._answer(*server.reply)

    do_PUT = do_POST

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def http() -> Iterator[Http]:
    server = Http()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_calls_go_over_http_first(http: Http) -> None:
    """Without gRPC every call goes over HTTP as Connect has it, with the key; its errors are the same classes."""
    transport = ServerTransport(http.url, api_key="secret")
    http.reply = (200, messages.metadata_pb2.StartRunResponse(writer=4).SerializeToString())
    assert (await transport.start_run({"request_id": "r"})).writer == 4
    path, _, headers = http.seen[-1]
    assert path == "/runyard.metadata.v1.MetadataService/StartRun"
    names = {name.lower(): value for name, value in headers.items()}
    assert names["content-type"] == "application/proto"
    assert names["authorization"] == "Bearer secret"
    detail = FULL.details[0]
    import base64

    value = base64.b64encode(detail.value).decode().rstrip("=")
    details = [{"type": "google.rpc.ErrorInfo", "value": value}]
    body = {"code": "resource_exhausted", "message": "full", "details": details}
    http.reply = (429, json.dumps(body).encode())
    with pytest.raises(ResourceExhausted) as caught:
        await transport.finish_run(1, 1, Ending("SIGNAL", None, "", 1, 1))
    assert (caught.value.reason, caught.value.metadata) == ("QUEUE_FULL", {"limit": "64"})
    http.reply = (502, b"<html>")
    with pytest.raises(Unavailable):
        await transport.last_step("e/p/r", writer_max=0)
    await transport.close()


async def test_nobody_there_is_told_as_such() -> None:
    """A refused connection is Unavailable, and known to be of this side."""
    transport = ServerTransport("http://127.0.0.1:1", api_key="")
    with pytest.raises(Unavailable) as caught:
        await transport.last_step("e/p/r", writer_max=0)
    assert caught.value.reason == "UNREACHABLE"
    await transport.close()


async def test_a_part_is_put_with_its_checksum(http: Http, tmp_path: Path) -> None:
    """Exactly the part's bytes go out, with length and MD5; the ETag comes back; a refusal may be repeated."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    transport = ServerTransport(http.url, api_key="secret")
    part = FilePart(str(path), 3, 4, "bWQ1")
    assert await transport.put_part(f"{http.url}/bucket/key?sig=1", part) == '"e"'
    target, body, headers = http.seen[-1]
    assert (target, body, headers["Content-MD5"]) == ("/bucket/key?sig=1", b"3456", "bWQ1")
    assert "authorization" not in {name.lower() for name in headers}
    http.reply = (403, b"expired")
    with pytest.raises(Unavailable):
        await transport.put_part(f"{http.url}/bucket/key", part)
    await transport.close()


async def grpc_server(behave: Any) -> tuple[grpc.aio.Server, int]:
    """Serves every method with `behave(request bytes, context)`."""

    class Everything(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(behave)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def test_grpc_takes_over_and_gives_back(http: Http) -> None:
    """Once gRPC is reached calls go there, errors with their details; when it is gone they go over HTTP again."""

    async def behave(request: bytes, context: Any) -> bytes:
        if request:
            await context.abort_with_status(
                _Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", FULL.SerializeToString())
            )
        return b""

    server, port = await grpc_server(behave)
    http.grpc = f"127.0.0.1:{port}"
    transport = ServerTransport(http.url, api_key="")
    await transport.apply_changes(0, 0, [])
    assert transport._upgrade is not None
    await asyncio.wait_for(transport._upgrade, 20)
    over_http = len(http.seen)
    await transport.apply_changes(0, 0, [])
    assert len(http.seen) == over_http
    with pytest.raises(ResourceExhausted) as caught:
        await transport.apply_changes(7, 0, [])
    assert caught.value.retry_delay_s == 1.5
    await server.stop(0)
    with pytest.raises(Unavailable):
        await transport.apply_changes(0, 0, [])
    await transport.apply_changes(0, 0, [])
    assert len(http.seen) == over_http + 1
    await transport.close()


class _Status(grpc.Status):
    """A status with details, as grpcio wants one."""

    def __init__(self, code: grpc.StatusCode, details: str, content: bytes) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = (("grpc-status-details-bin", content),)


async def test_an_error_without_details_keeps_its_class(http: Http) -> None:
    """A status that only gRPC's own code tells of becomes the class of that code."""

    async def behave(request: bytes, context: Any) -> bytes:
        code = grpc.StatusCode.NOT_FOUND if request else grpc.StatusCode.RESOURCE_EXHAUSTED
        await context.abort(code, "message larger than max")
        return b""

    server, port = await grpc_server(behave)
    from runyard.agent.grpc_calls import GrpcCalls

    calls = GrpcCalls(f"127.0.0.1:{port}", is_tls=False, headers={})
    with pytest.raises(InvalidArgument):  # too large: halving helps, repeating does not
        await calls.call("/a/b", b"", timeout_s=5)
    with pytest.raises(NotFound):
        await calls.call("/a/b", b"x", timeout_s=5)
    await calls.close()
    await server.stop(0)
