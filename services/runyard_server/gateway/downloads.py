"""Answers GET /.download/log: a run's log as one text, streamed page by page, whatever its length."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

import grpc
import grpc.aio
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, ResourceExhausted
from runyard_server.gateway.log_pages import (
    LINES_METHOD,
    RECEIPT_METHOD,
    LogAsk,
    check_ask,
    labels_request,
    page_request,
    page_text,
    read_labels,
)
from runyard_server.gateway.replies import error_reply, status_reply
from runyard_server.gateway.unary import Forwarder
from runyard_server.rpc.calls import REQUEST_ID_KEY, accept_request_id
from runyard_server.rpc.errors import status_of_rpc_error

DOWNLOADS = Counter(
    "runyard_log_downloads_total", "Logs downloaded as text, by result.", ["result"]
)
LOG_PATH: Final = "/.download/log"
DOWNLOADS_MAX: Final = 16
"""Logs sent at once; each holds about two pages."""
PAGE_TIMEOUT_S: Final = 60.0
TRIES: Final = 6
"""How often a page is asked for while a service is away."""
_PAUSE_S: Final = 1.0
_QUERY: Final = "query"
_FLAGS: Final = ("colours", "times", "labels")
_AGAIN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)

log = logging.getLogger("runyard.gateway")


class LogDownloads:
    """Streams logs; holds nothing but their number."""

    def __init__(self, forwarder: Forwarder, *, clock: Clock) -> None:
        self._forwarder = forwarder
        self._clock = clock
        self._count = 0

    async def answer(self, request: Request) -> Response:
        """Returns the log, or why there is none: a run that is not there is told before the first byte."""
        query = request.query_params
        request_id = accept_request_id(request.headers.get(REQUEST_ID_KEY), self._clock)
        headers = {REQUEST_ID_KEY: request_id, "cache-control": "no-store"}
        try:
            ask = check_ask(
                query.get("run", ""),
                query.getlist("writer"),
                query.getlist("stream"),
                {name: query.get(name, "") for name in _FLAGS},
            )
            if self._count >= DOWNLOADS_MAX:
                raise ResourceExhausted(
                    "QUEUE_FULL",
                    f"{DOWNLOADS_MAX} logs are being downloaded, which is the limit; repeat in a while",
                    metadata={"queue": "downloads", "limit": DOWNLOADS_MAX},
                    retry_delay_s=5.0,
                )
            labels: Mapping[int, str] = {}
            if ask.has_labels:
                labels = read_labels(
                    await self._call(RECEIPT_METHOD, labels_request(ask), request_id)
                )
            first = await self._call(LINES_METHOD, page_request(ask, ""), request_id)
        except DomainError as error:
            return error_reply(error, headers=headers)
        except grpc.aio.AioRpcError as error:
            return status_reply(status_of_rpc_error(error, service=_QUERY), headers=headers)
        headers["content-disposition"] = f'attachment; filename="{_file_name(ask)}"'
        return StreamingResponse(
            self._pages(ask, first, labels, request_id),
            media_type="text/plain; charset=utf-8",
            headers=headers,
        )

    async def _pages(
        self, ask: LogAsk, reply: bytes, labels: Mapping[int, str], request_id: str
    ) -> AsyncIterator[bytes]:
        """Yields the text; where a page cannot be had it raises, and the connection breaks: a part does not pass for the whole."""
        self._count += 1
        result = "broken"
        try:
            while True:
                text, token = await asyncio.to_thread(page_text, ask, reply, labels)
                if text:
                    yield text
                if not token:
                    result = "whole"
                    return
                reply = await self._call(LINES_METHOD, page_request(ask, token), request_id)
        finally:
            self._count -= 1
            DOWNLOADS.labels(result).inc()

    async def _call(self, method: str, body: bytes, request_id: str) -> bytes:
        for tried in range(1, TRIES + 1):
            try:
                return await self._forwarder.forward(
                    _QUERY, method, body, timeout_s=PAGE_TIMEOUT_S, request_id=request_id
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or tried == TRIES:
                    raise
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("unreachable: the last try returns or raises")


def _file_name(ask: LogAsk) -> str:
    writers = "".join(f"-writer{writer}" for writer in ask.writers[:3])
    return (
        re.sub(r"[^\w.-]+", "_", f"{ask.run_path.rpartition('/')[2]}{writers}", flags=re.ASCII)
        + ".log"
    )
