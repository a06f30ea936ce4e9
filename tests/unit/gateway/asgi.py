"""Sends one request to an ASGI application and collects the answer, without a socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class Reply:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason in the first detail of a Connect error."""
        return str(self.json["details"][0]["debug"]["reason"])


async def send(
    app: Any,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    stalls: bool = False,
) -> Reply:
    """Returns the answer of an ASGI application; a body that stalls never comes to its end."""
    lines = {"host": "127.0.0.1:8080", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "headers": [(key.lower().encode(), value.encode()) for key, value in lines.items()],
    }
    sent: list[dict[str, Any]] = []
    chunks = [body[i : i + 1000] for i in range(0, len(body), 1000)] or [b""]

    async def receive() -> dict[str, Any]:
        if not chunks and stalls:
            await asyncio.Event().wait()
        if not chunks:
            return {"type": "http.disconnect"}
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks) or stalls}

    async def collect(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, collect)
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], found, whole)


def app_of(answer: Any) -> Any:
    """Returns an ASGI application of a function from request to response."""

    async def app(scope: Any, receive: Any, send_: Any) -> None:
        response: Response = await answer(Request(scope, receive))
        await response(scope, receive, send_)

    return app
