"""Unary calls over HTTP (https://connectrpc.com/docs/protocol): how the agent begins, and goes on where gRPC is barred."""

from __future__ import annotations

import asyncio
import base64
import collections
import http.client
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, TypeVar
from urllib.parse import urlsplit

from runyard.agent.budget import Budget
from runyard.agent.ports import FilePart
from runyard.agent.retry import UNREACHABLE
from runyard.agent.store_calls import StoreCalls
from runyard.errors import Error, InvalidArgument, Unavailable, error_of

T = TypeVar("T")

CALL_THREAD_COUNT = 4
FILE_THREAD_COUNT = 16
"""Parts of files in flight, over all runs of an agent."""
SMALL_THREAD_COUNT = 16
"""Small parts of one batch in flight."""
FILE_BYTES_MAX = 24 << 20
"""Their bytes together; a larger part goes alone. An object store holds in memory what it has not written yet."""
CONNECT_TIMEOUT_S = 2.0
REPLY_BYTES_MAX = 64 << 20


class HttpCalls:
    """Carries calls to one server and file parts to any; connections are kept."""

    def __init__(self, base_url: str, *, headers: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._parts = urlsplit(base_url)
        self._headers = dict(headers)
        self._idle: list[http.client.HTTPConnection] = []
        self._is_closed = False
        self._callers = ThreadPoolExecutor(CALL_THREAD_COUNT, thread_name_prefix="call")
        self._store = StoreCalls()
        self._budget = Budget(FILE_BYTES_MAX)
        self._senders = ThreadPoolExecutor(FILE_THREAD_COUNT, thread_name_prefix="file")

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        """Returns the reply's bytes; raises runyard.errors.Error."""
        headers = {
            **self._headers,
            "content-type": "application/proto",
            "connect-protocol-version": "1",
            "connect-timeout-ms": str(int(timeout_s * 1000)),
        }
        path = self._parts.path.rstrip("/") + method

        def exchange() -> bytes:
            status, content = self._exchange("POST", path, request, headers, timeout_s)
            if status != 200:
                raise _error(status, content, self._base_url)
            return content

        return await _in_thread(self._callers, exchange)

    async def get_json(self, path: str, *, timeout_s: float) -> dict[str, Any]:
        """Returns the JSON object at a path of the server; raises runyard.errors.Error."""

        def exchange() -> dict[str, Any]:
            full_path = self._parts.path.rstrip("/") + path
            status, content = self._exchange("GET", full_path, b"", self._headers, timeout_s)
            if status != 200:
                raise _error(status, content, self._base_url)
            try:
                fields = json.loads(content)
            except ValueError:
                fields = None
            if not isinstance(fields, dict):
                raise Unavailable(f"{self._base_url}{path} is not JSON; is a runyard server there?")
            return fields

        return await _in_thread(self._callers, exchange)

    async def put_part(self, url: str, part: FilePart) -> str:
        """Sends a part of a file and returns the ETag; raises runyard.errors.Error, OSError if the file is gone."""
        await self._budget.take(part.size_bytes)
        try:
            return await _in_thread(self._senders, lambda: self._store.put_part(url, part))
        finally:
            self._budget.give(part.size_bytes)

    async def put_parts(self, jobs: Sequence[tuple[str, FilePart]]) -> list[str | Error | OSError]:
        """Sends small parts of files; returns for each its ETag, or why it was not sent."""
        answers: list[str | Error | OSError | None] = [None] * len(jobs)
        waiting = collections.deque(range(len(jobs)))
        count = min(SMALL_THREAD_COUNT, len(jobs))
        held_bytes = count * max((part.size_bytes for _, part in jobs), default=0)
        await self._budget.take(held_bytes)
        try:
            await asyncio.gather(
                *(
                    _in_thread(self._senders, lambda: self._store.put_parts(jobs, waiting, answers))
                    for _ in range(count)
                )
            )
        finally:
            waiting.clear()
            self._budget.give(held_bytes)
        failures = [answer for answer in answers if isinstance(answer, Error)]
        return [failures[0] if answer is None else answer for answer in answers]

    def close(self) -> None:
        """Takes no further calls."""
        self._is_closed = True
        self._callers.shutdown(wait=False)
        self._senders.shutdown(wait=False)
        self._store.close()
        while self._idle:
            self._idle.pop().close()

    def _exchange(
        self, verb: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, bytes]:
        # A kept connection may have been closed by the server meanwhile; calls are safe to repeat, on a new one.
        kept = self._idle.pop() if self._idle else None
        for connection in (kept, None) if kept is not None else (None,):
            try:
                if connection is None:
                    connection = _connect(self._parts)
                connection.sock.settimeout(timeout_s)
                connection.request(verb, path, body=body or None, headers=dict(headers))
                return self._finish(connection)
            except (OSError, http.client.HTTPException) as error:
                if connection is not None:
                    connection.close()
                failure = error
        raise Unavailable(
            f"the server at {self._base_url} does not answer ({failure}). Is it running (`runyard server`), and is "
            f"RUNYARD_BASE_URL its address?",
            reason=UNREACHABLE,
        )

    def _finish(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        """Reads the answer, and keeps the connection for the next call."""
        reply = connection.getresponse()
        content = reply.read(REPLY_BYTES_MAX)
        if reply.will_close or self._is_closed:
            connection.close()
        else:
            self._idle.append(connection)
        return reply.status, content


def _connect(parts: Any) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)
    connection.connect()
    return connection


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _error(status: int, body: bytes, base_url: str) -> Error:
    """Returns the error that a Connect error body, or an HTTP status without one, tells of."""
    try:
        fields = json.loads(body)
        code, message = str(fields["code"]), str(fields.get("message") or "")
    except (ValueError, KeyError, TypeError):
        if status == 413:
            return InvalidArgument(
                f"{base_url} refused a body as too large", reason="FIELD_TOO_LARGE"
            )
        code = {401: "unauthenticated", 403: "permission_denied"}.get(status, "unavailable")
        return error_of(code, f"{base_url} answered HTTP {status}; is a runyard server there?")
    from runyard.agent.status import detail_of

    metadata: dict[str, str] = {}
    reason, retry_delay_s = "", None
    for entry in fields.get("details") or ():
        name, value = str(entry.get("type") or ""), str(entry.get("value") or "")
        found = detail_of(name, base64.b64decode(value + "=" * (-len(value) % 4)))
        reason, metadata = found[0] or reason, found[1] or metadata
        retry_delay_s = found[2] if found[2] is not None else retry_delay_s
    if code == "canceled":
        code = "unavailable"
    return error_of(code, message, reason=reason, metadata=metadata, retry_delay_s=retry_delay_s)
