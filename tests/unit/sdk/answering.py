"""A server that answers as a test says, for the client that reads back."""

from __future__ import annotations

import http.server
import json
from collections.abc import Callable
from typing import Any

from google.protobuf import message

from runyard_protos.metadata.v1 import metadata_pb2

Answer = Callable[[str, bytes], tuple[int, str, bytes]]


class Yard:
    """A real HTTP server on this machine that answers as the test says."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.drops = 0
        yard = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                yard.requests.append((self.path, dict(self.headers.items()), body))
                if yard.drops:
                    yard.drops -= 1
                    self.close_connection = True
                    return
                answer = yard.answers.get(self.path.rpartition("/")[2])
                status, kind, content = (
                    answer(self.path, body) if answer else (404, "text/plain", b"no such page")
                )
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, method: str, reply: message.Message) -> None:
        content = reply.SerializeToString()
        self.answers[method] = lambda path, body: (200, "application/proto", content)

    def fail(self, method: str, status: int, fields: dict[str, Any]) -> None:
        content = json.dumps(fields).encode()
        self.answers[method] = lambda path, body: (status, "application/json", content)


def run_message(**fields: Any) -> metadata_pb2.Run:
    defaults: dict[str, Any] = {
        "path": "e/p/r1", "entity": "e", "project": "p", "run_id": "r1", "display_name": "n", "run_key": 2**60,
        "state": metadata_pb2.RUN_STATE_RUNNING, "config_json": '{"big":18446744073709551615,"x":{"$float":"NaN"}}',
        "tags": ["t"],
    }  # fmt: skip
    return metadata_pb2.Run(**{**defaults, **fields})
