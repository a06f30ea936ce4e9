"""A small HTTP front over chDB that speaks as much of ClickHouse's HTTP protocol as clickhouse-connect uses.

So that services in several processes share one ClickHouse in the tests, through the client's real HTTP path: parameters
in the address or a form, settings, databases, compressed bodies both ways, chunked uploads, error codes in headers.
What a real server adds (users, sessions, replication, limits) is not here.

    python tests/integration/clickhouse_front.py --path DIR [--port N]      prints "ready PORT", ends on SIGTERM
"""

from __future__ import annotations

import argparse
import email.parser
import email.policy
import gzip
import os
import queue
import re
import signal
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

ENGINES = 8
BODY_BYTES_MAX = 512 << 20
DEFAULT_FORMAT = "TabSeparated"
# Parameters of the transport, which are no settings of the engine.
TRANSPORT_PARAMETERS = {
    "query", "database", "session_id", "session_timeout", "session_check", "query_id", "quota_key", "compress",
    "decompress", "wait_end_of_query", "client_protocol_version", "role", "buffer_size", "enable_http_compression",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "default_format", "user", "password",
    "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
INSERT_DATA = re.compile(
    rb"\s*INSERT\s+INTO\s+(?P<into>.+?)\s+FORMAT\s+(?P<format>\w+)\s*\Z", re.I | re.S
)
INSERT_IN_BODY = re.compile(
    rb"\s*INSERT\s+INTO\s+[^\n]+?\s+FORMAT\s+(?!Values\b)\w+[ \t]*\r?\n", re.I
)
TRAILING_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.I)
ERROR_CODE = re.compile(r"Code: (\d+)")


class EngineError(Exception):
    """What the engine said, with its code."""

    def __init__(self, message: str) -> None:
        # chDB wraps the engine's message; a server's begins with its code.
        start = message.find("Code: ")
        super().__init__(message[start:] if start >= 0 else message)
        found = ERROR_CODE.search(message)
        self.code = int(found[1]) if found else 1002


class Engine:
    """One connection to the embedded engine; remembers the settings and the database it was left with."""

    def __init__(self, path: str) -> None:
        self.connection = chdb.connect(path)
        self.settings: dict[str, str] = {}
        self.database = "default"

    def run(self, sql: bytes | str, output: str, parameters: dict[str, Any] | None = None) -> bytes:
        try:
            # The engine's own bytes come as str or bytes statements alike.
            text = sql.decode() if isinstance(sql, bytes) else sql
            result = self.connection.query(text, output, params=parameters or {})
            return bytes(result.bytes() or b"")
        except RuntimeError as error:
            # chDB puts what a query that failed halfway has said before the connection's next answer; a server does not.
            self.connection.query("SELECT 1", DEFAULT_FORMAT)
            raise EngineError(str(error)) from error

    def prepare(self, settings: dict[str, str], database: str) -> None:
        """Makes the connection what a fresh HTTP request with these settings would meet."""
        for name in set(self.settings) - set(settings):
            self.run(f"SET {name} = DEFAULT", DEFAULT_FORMAT)
            del self.settings[name]
        for name, value in settings.items():
            if self.settings.get(name) != value:
                self.run(f"SET {_identifier(name)} = {_quoted(value)}", DEFAULT_FORMAT)
                self.settings[name] = value
        if database != self.database:
            self.run(f"USE `{_identifier(database)}`", DEFAULT_FORMAT)
            self.database = database


@dataclass(frozen=True, slots=True)
class Request:
    """A statement with all that it needs."""

    sql: bytes
    data: bytes
    parameters: dict[str, str]
    settings: dict[str, str]
    database: str
    output: str


class Front(ThreadingHTTPServer):
    """Hands each request to a free engine connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], path: Path) -> None:
        super().__init__(address, Handler)
        self.engines: queue.Queue[Engine] = queue.Queue()
        for _ in range(ENGINES):
            self.engines.put(Engine(str(path)))

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        engine = self.engines.get()
        try:
            yield engine
        finally:
            self.engines.put(engine)

    def execute(self, request: Request) -> bytes:
        with self.engine() as engine:
            engine.prepare(request.settings, request.database)
            insert = INSERT_DATA.match(request.sql)
            if insert and request.data:
                return _insert(engine, insert["into"].decode(), insert["format"].decode(), request)
            sql = request.sql + (b"\n" + request.data if request.data else b"")
            return engine.run(sql, request.output, request.parameters)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes: without this each waits for the other side's delayed acknowledgement.
    disable_nagle_algorithm = True
    server: Front

    def do_GET(self) -> None:
        if urlsplit(self.path).path in ("/ping", "/replicas_status"):
            self._reply(200, b"Ok.\n", {})
        else:
            self._statement()

    def do_POST(self) -> None:
        self._statement()

    def _statement(self) -> None:
        try:
            request = self._read_request()
            body = self.server.execute(request)
        except EngineError as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code)}
            self._reply(404 if error.code in (60, 81) else 500, f"{error}\n".encode(), headers)
            return
        except ValueError as error:
            headers = {"X-ClickHouse-Exception-Code": "36"}
            self._reply(
                400, f"Code: 36. DB::Exception: {error}. (BAD_ARGUMENTS)\n".encode(), headers
            )
            return
        headers = {"X-ClickHouse-Summary": "{}", "X-ClickHouse-Timezone": "UTC"}
        if body or TRAILING_FORMAT.search(request.sql):
            headers["X-ClickHouse-Format"] = request.output
        if "enable_http_compression=1" in self.path and "lz4" in self.headers.get(
            "Accept-Encoding", ""
        ):
            body = lz4.frame.compress(body)
            headers["Content-Encoding"] = "lz4"
        self._reply(200, body, headers)

    def _read_request(self) -> Request:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = _decompress(self._read_body(), self.headers.get("Content-Encoding", ""))
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith("multipart/form-data"):
            query.update(_form(content_type, body))
            body = b""
        sql = query.get("query", "").encode()
        if not sql:
            inline = INSERT_IN_BODY.match(body)
            sql, body = (body[: inline.end()], body[inline.end() :]) if inline else (body, b"")
        if not sql.strip():
            raise ValueError("empty query")
        found = TRAILING_FORMAT.search(sql)
        return Request(
            sql=sql,
            data=body,
            parameters={k[6:]: v for k, v in query.items() if k.startswith("param_")},
            settings={
                k: v
                for k, v in query.items()
                if k not in TRANSPORT_PARAMETERS and not k.startswith("param_")
            },
            database=query.get("database") or "default",
            output=found[1].decode() if found else query.get("default_format", DEFAULT_FORMAT),
        )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(
                min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX)
            )
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
            if sum(map(len, parts)) > BODY_BYTES_MAX:
                raise ValueError(f"body above {BODY_BYTES_MAX} bytes")
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=UTF-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _insert(engine: Engine, into: str, output: str, request: Request) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".insert") as file:
        file.write(request.data)
        file.flush()
        sql = f"INSERT INTO {into} FROM INFILE {_quoted(file.name)} FORMAT {output}"
        return engine.run(sql, DEFAULT_FORMAT, request.parameters)


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding == "lz4":
        return bytes(lz4.frame.decompress(body))
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    raise ValueError(
        f"Content-Encoding {encoding!r} is not offered: use lz4, gzip, deflate or none"
    )


def _form(content_type: str, body: bytes) -> dict[str, str]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields = {}
    for part in message.iter_parts():
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        fields[str(part.get_param("name", header="content-disposition"))] = payload.decode()
    return fields


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is no identifier")
    return name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    arguments.path.mkdir(parents=True, exist_ok=True)
    front = Front(("127.0.0.1", arguments.port), arguments.path)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=front.serve_forever, daemon=True).start()
    print(f"ready {front.server_address[1]}", flush=True)
    stop.wait()
    front.shutdown()
    sys.stdout.flush()
    # The engine keeps threads that take no part in an orderly end of the interpreter.
    os._exit(0)


if __name__ == "__main__":
    main()
