"""Sending parts to an object store: what goes over the wire, connections that are kept or gone, early refusals, short files."""

from __future__ import annotations

import collections
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runyard.agent.content_upload import FILE_CHANGED, STORE_REFUSED, STORE_UNREACHABLE
from runyard.agent.ports import FilePart
from runyard.agent.store_calls import StoreCalls
from runyard.errors import Unavailable

MIB = 1 << 20


class Store:
    """An HTTP server that keeps what is PUT, over connections that it may close when it likes."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.connections: set[Any] = set()
        self.status = 200
        self.said = b""
        self.is_refusing_early = False
        self.closes_after = False
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                store.connections.add(self.client_address)
                if store.is_refusing_early:
                    self.close_connection = True
                else:
                    store.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(store.status)
                self.send_header("etag", '"e"')
                self.send_header("content-length", str(len(store.said)))
                self.end_headers()
                self.wfile.write(store.said)
                if (
                    store.closes_after
                ):  # without a word, as a store does that has had enough of an idle one
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/bucket/key?sig=1"


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    thread = threading.Thread(target=store.server.serve_forever, daemon=True)
    thread.start()
    yield store
    store.server.shutdown()
    store.server.server_close()


@pytest.fixture
def calls() -> Iterator[StoreCalls]:
    calls = StoreCalls()
    yield calls
    calls.close()


def test_just_the_part_is_sent_and_the_connection_kept(
    store: Store, calls: StoreCalls, tmp_path: Path
) -> None:
    """Each range goes whole; one connection serves parts that follow each other; progress is told."""
    content = os.urandom(9 * MIB)
    path, told = tmp_path / "file", []
    path.write_bytes(content)
    for offset, size in ((0, 9 * MIB), (MIB, 5 * MIB + 1), (0, 0)):
        part = FilePart(str(path), offset, size, "", told.append)
        assert calls.put_part(store.url, part) == '"e"'
        assert store.bodies[-1] == content[offset : offset + size]
    assert told == [4 * MIB, 8 * MIB, 9 * MIB, 4 * MIB, 5 * MIB + 1]
    assert len(store.connections) == 1


def test_a_connection_that_the_store_closed_is_replaced(
    store: Store, calls: StoreCalls, tmp_path: Path
) -> None:
    """What was kept may be gone; the part goes over a new one, without an error."""
    (tmp_path / "file").write_bytes(b"abc")
    store.closes_after = True
    for _ in range(3):
        calls.put_part(store.url, FilePart(str(tmp_path / "file"), 0, 3, ""))
    assert len(store.connections) == 3


def test_a_refusal_before_the_end_is_read(store: Store, calls: StoreCalls, tmp_path: Path) -> None:
    """A store that refuses without reading on says why; that is told, not that the connection broke."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(64 * MIB)
    store.is_refusing_early, store.status, store.said = True, 403, b"<Code>AccessDenied</Code>"
    with pytest.raises(Unavailable) as caught:
        calls.put_part(store.url, FilePart(str(tmp_path / "file"), 0, 64 * MIB, ""))
    assert caught.value.reason in (STORE_REFUSED, STORE_UNREACHABLE)


@pytest.mark.parametrize(
    ("said", "is_kept"),
    [
        (b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n', True),
        (
            b'HTTP/1.1 200 OK\r\nconnection: Keep-Alive\r\netag:"e"\r\ncontent-length:0\r\n\r\n',
            True,
        ),
        (b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', False),
        (b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2\r\n\r\n{}', False),
        (
            b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
            False,
        ),
        (
            b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n',
            False,
        ),
        (b'HTTP/1.0 200 OK\r\nETag: "e"\r\n\r\n', False),
    ],
)
@pytest.mark.parametrize("is_split", [False, True])
def test_answers_to_small_parts_are_read(
    calls: StoreCalls, tmp_path: Path, said: bytes, is_kept: bool, is_split: bool
) -> None:
    """However a store puts it and wherever its packets end; a connection is used again only after the plainest answer."""
    (tmp_path / "file").write_bytes(b"abc")
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/k?sig=1"

        def serve() -> None:
            while len(requests) < 2:
                connection, _ = server.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with connection:
                    while received := connection.recv(4096):
                        requests.append(received)
                        for piece in (
                            [said[i : i + 7] for i in range(0, len(said), 7)]
                            if is_split
                            else [said]
                        ):
                            connection.sendall(piece)
                        accepted.append(connection)
                        if not is_kept:
                            break

        accepted: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        part = FilePart(str(tmp_path / "file"), 0, 3, "bWQ1")
        assert [calls.put_part(url, part), calls.put_part(url, part)] == ['"e"', '"e"']
        calls.close()
        thread.join(10)
    assert (accepted[0] is accepted[1]) == is_kept
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert (body, head.splitlines()[0]) == (b"abc", b"PUT /k?sig=1 HTTP/1.1")
    assert {b"Content-Length: 3", b"Content-MD5: bWQ1"} < set(head.splitlines())


def test_of_many_parts_each_has_its_answer(store: Store, calls: StoreCalls, tmp_path: Path) -> None:
    """Threads share the parts; one that is gone stops no other; once the store is away no further part is tried."""
    jobs = []
    for number in range(40):
        (tmp_path / f"{number}").write_bytes(b"x" * number)
        jobs.append((store.url, FilePart(str(tmp_path / f"{number}"), 0, number, "")))
    (tmp_path / "7").unlink()
    answers: list[Any] = [None] * 40
    waiting = collections.deque(range(40))
    threads = [
        threading.Thread(target=calls.put_parts, args=(jobs, waiting, answers)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert isinstance(answers.pop(7), FileNotFoundError)
    assert set(answers) == {'"e"'} and len(store.connections) <= 4
    with socket.create_server(("127.0.0.1", 0)) as server:
        away = f"http://127.0.0.1:{server.getsockname()[1]}/k"
    answers, waiting = [None] * 3, collections.deque(range(3))
    calls.put_parts([(away, jobs[0][1])] * 3, waiting, answers)
    assert answers[0].reason == STORE_UNREACHABLE and answers[1:] == [None, None]


def test_a_file_that_became_shorter_is_known_as_changed(
    store: Store, calls: StoreCalls, tmp_path: Path
) -> None:
    """Without waiting for bytes that never come."""
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(Unavailable) as caught:
        calls.put_part(store.url, FilePart(str(tmp_path / "file"), 0, 30, ""))
    assert caught.value.reason == FILE_CHANGED


def test_bytes_that_the_store_refuses_are_known_as_changed(
    store: Store, calls: StoreCalls, tmp_path: Path
) -> None:
    """BadDigest: the MD5 that was announced is not that of the file as it is."""
    (tmp_path / "file").write_bytes(b"abc")
    store.status, store.said = 400, b"<Error><Code>BadDigest</Code></Error>"
    with pytest.raises(Unavailable) as caught:
        calls.put_part(store.url, FilePart(str(tmp_path / "file"), 0, 3, "bWQ1"))
    assert caught.value.reason == FILE_CHANGED


def test_a_store_that_is_away_is_known(calls: StoreCalls, tmp_path: Path) -> None:
    """Apart from one that answers with an error: it is waited for longer."""
    (tmp_path / "file").write_bytes(b"abc")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable, match="reachable") as caught:
        calls.put_part(f"http://127.0.0.1:{port}/k", FilePart(str(tmp_path / "file"), 0, 3, ""))
    assert caught.value.reason == STORE_UNREACHABLE


def test_closing_ends_what_is_in_flight(calls: StoreCalls, tmp_path: Path) -> None:
    """A part to a store that takes nothing ends with the agent, not with its timeout."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(64 * MIB)
    problems: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/k"

        def send() -> None:
            try:
                calls.put_part(url, FilePart(str(tmp_path / "file"), 0, 64 * MIB, ""))
            except Unavailable as error:
                problems.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = server.accept()
        connection.recv(1)
        calls.close()
        thread.join(10)
        assert problems
        connection.close()
