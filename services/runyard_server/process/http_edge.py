"""The HTTP listener of a process: readiness, metrics and configuration for everyone who runs it, the gateway's routes where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from runyard_server import telemetry
from runyard_server.domain.addresses import Address
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import Internal, NotFound, Unavailable
from runyard_server.gateway.auth import CallerGuard
from runyard_server.gateway.replies import error_reply
from runyard_server.process.http_connections import BoundedConnection
from runyard_server.rpc.calls import REQUEST_ID_KEY, accept_request_id
from runyard_server.rpc.ports import PortTaken, candidates, listen, socket_address

log = logging.getLogger("runyard.http")

READY_PATH: Final = "/ready"
METRICS_PATH: Final = "/metrics"
CONFIG_PATH: Final = "/config"
_POLL_S: Final = 0.01
_CLIENT_CLOSED_STATUS: Final = 499

Answer = Callable[[Request], Awaitable[Response]]


class HttpEdge:
    """Listens over HTTP; answers "not ready" until told otherwise."""

    def __init__(
        self,
        *,
        clock: Clock,
        parts: Iterable[str],
        effective_config: Callable[[], dict[str, Any]],
        addresses: Callable[[], dict[str, str]],
        gateway: Answer | None,
        blob_origins: Iterable[str] = (),
    ) -> None:
        self._clock = clock
        self._parts = dict.fromkeys(parts, False)
        self._effective_config = effective_config
        self._addresses = addresses
        self._gateway = gateway
        self._app = CallerGuard(self._answer_asgi, blob_origins=blob_origins)
        self._is_stopping = False
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def bind(self, address: Address, *, is_explicit: bool) -> Address:
        """Takes the port and returns where it is; see rpc.listener.Listener.bind. Raises PortTaken."""
        tried = candidates(address, is_explicit=is_explicit)
        for candidate in tried:
            try:
                self._socket = listen(candidate)
                return socket_address(self._socket)
            except PortTaken:
                if candidate == tried[-1]:
                    raise
        raise AssertionError("unreachable: the last candidate returns or raises")

    def set_ready(self, part: str) -> None:
        """Says that the part answers; when all do, `/ready` is 200."""
        assert part in self._parts, part
        self._parts[part] = True

    @property
    def is_ready(self) -> bool:
        """Returns whether all parts answer and nobody asked for the end."""
        return all(self._parts.values()) and not self._is_stopping

    async def start(self) -> None:
        """Begins to answer."""
        assert self._socket is not None, "bind first"
        config = uvicorn.Config(
            self._app,
            http=BoundedConnection,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=75,
            backlog=512,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]), name="http")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("the HTTP listener ended while it started")
            await asyncio.sleep(_POLL_S)

    async def begin_stop(self) -> None:
        """Makes `/ready` say 503; everything else goes on."""
        self._is_stopping = True

    async def stop(self, grace_s: float) -> None:
        """Takes no more requests; waits up to `grace_s` for those in flight."""
        self._is_stopping = True
        if self._server is None or self._serving is None:
            self.close()
            return
        self._server.config.timeout_graceful_shutdown = max(round(grace_s), 1)
        self._server.should_exit = True
        await self._serving

    def close(self) -> None:
        """Gives the port back if it was bound and never served. Safe to repeat."""
        if self._socket is not None:
            self._socket.close()

    async def _answer_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        request = Request(scope, receive)
        started_s = self._clock.monotonic_s()
        route = _route(request)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            telemetry.HTTP_REQUESTS.labels(route, _CLIENT_CLOSED_STATUS).inc()
            return
        except Exception:
            request_id = accept_request_id(request.headers.get(REQUEST_ID_KEY), self._clock)
            fields = {"path": request.url.path[:256], "request_id": request_id}
            log.exception(telemetry.EVENT_REQUEST_FAILED, extra={"fields": fields})
            response = error_reply(
                Internal(
                    "INTERNAL",
                    f"a bug of the server; its log tells more under request id {request_id}",
                    metadata={"request_id": request_id},
                )
            )
        telemetry.HTTP_REQUESTS.labels(route, response.status_code).inc()
        telemetry.HTTP_SECONDS.labels(route).observe(self._clock.monotonic_s() - started_s)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            if request.url.path == READY_PATH:
                return self._ready()
            if request.url.path == METRICS_PATH:
                return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
            if request.url.path == CONFIG_PATH:
                return JSONResponse(self._effective_config(), headers={"cache-control": "no-store"})
        if self._gateway is None:
            path = request.url.path[:256]
            missing = NotFound(
                "METHOD_NOT_FOUND",
                f"this process has no {path!r}: it runs without the target gateway, and answers "
                f"{READY_PATH}, {METRICS_PATH} and {CONFIG_PATH} only",
                metadata={"method": path},
            )
            return error_reply(missing)
        if not all(self._parts.values()):
            return error_reply(
                Unavailable(
                    "SERVICE_UNAVAILABLE", "the server is starting; repeat", retry_delay_s=1.0
                )
            )
        return await self._gateway(request)

    def _ready(self) -> Response:
        body = {
            "ready": self.is_ready,
            "stopping": self._is_stopping,
            "parts": self._parts,
            **self._addresses(),
        }
        return JSONResponse(
            body, status_code=200 if self.is_ready else 503, headers={"cache-control": "no-store"}
        )


class _Server(uvicorn.Server):
    """A server that leaves the signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures none."""
        yield


def _route(request: Request) -> str:
    if request.url.path in (READY_PATH, METRICS_PATH, CONFIG_PATH):
        return "admin"
    return "call" if request.method == "POST" else "page"
