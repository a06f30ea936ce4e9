"""Builds the gateway: unary calls, the web application and the address book, on the process's HTTP listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runyard_server import telemetry
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import Unimplemented
from runyard_server.gateway.downloads import LOG_PATH, LogDownloads
from runyard_server.gateway.pages import Pages, default_web_dir
from runyard_server.gateway.replies import error_reply
from runyard_server.gateway.transcode import find_public_methods
from runyard_server.gateway.unary import Forwarder, UnaryEdge

log = logging.getLogger("runyard.gateway")

WELL_KNOWN_PATH: Final = "/.well-known/runyard"


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Limits and places of the gateway."""

    web_dir: str = ""
    """Folder of the built web application. Empty: the one packed with the server, else the repository's."""
    grpc_address: str = ""
    """Where agents reach all services over gRPC, HOST:PORT, told at /.well-known/runyard. Empty: this process's own listener."""
    request_bytes_max: int = 8 * 1024 * 1024
    """Largest body taken, unzipped."""
    body_limit_s: float = 30.0
    """Longest time for a body to arrive; then 408, and the connection is closed."""
    in_flight_max: int = 512
    """Requests answered at once; further ones get 429."""
    timeout_default_s: float = 30.0
    """Time for a call whose request names none."""
    timeout_max_s: float = 120.0
    """Longest time for a call, whatever its request asks."""


class Gateway:
    """Answers what reaches the HTTP listener beside the process's own paths; see rpc.service.Service."""

    name = "gateway"

    def __init__(
        self,
        config: GatewayConfig,
        *,
        siblings: Forwarder,
        clock: Clock,
        version: str,
        grpc_address: Callable[[], str],
    ) -> None:
        self._unary = UnaryEdge(
            find_public_methods(),
            siblings,
            clock=clock,
            request_bytes_max=config.request_bytes_max,
            body_limit_s=config.body_limit_s,
            in_flight_max=config.in_flight_max,
            timeout_default_s=config.timeout_default_s,
            timeout_max_s=config.timeout_max_s,
        )
        self._downloads = LogDownloads(siblings, clock=clock)
        self._pages = Pages(Path(config.web_dir) if config.web_dir else default_web_dir())
        self._version = version
        self._grpc_address_told = config.grpc_address
        self._grpc_address_own = grpc_address

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Returns nothing: the gateway has no RPC of its own."""
        return ()

    async def start(self) -> None:
        """Says if the web application is missing; the rest works without it."""
        if not self._pages.is_built:
            log.warning(telemetry.EVENT_WEB_NOT_BUILT, extra={"fields": {"hint": "make web"}})

    async def run(self) -> None:
        """Waits: requests bring their own tasks."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Lets the conversion threads go."""
        self._unary.close()

    async def answer(self, request: Request) -> Response:
        """Returns the answer to any request that is not for the process itself."""
        if request.method == "POST":
            return await self._unary.answer(request)
        if request.method in ("GET", "HEAD"):
            if request.url.path == WELL_KNOWN_PATH:
                return JSONResponse(
                    {
                        "version": self._version,
                        "grpc": self._grpc_address_told or self._grpc_address_own(),
                    },
                    headers={"cache-control": "no-store"},
                )
            if request.url.path == LOG_PATH:
                return await self._downloads.answer(request)
            return await self._pages.answer(request)
        refusal = Unimplemented(
            "METHOD_NOT_FOUND",
            f"{request.method} is not answered: pages are read with GET, calls are made with POST",
            metadata={"method": request.method},
        )
        return error_reply(refusal, http_status=405, headers={"allow": "GET, HEAD, POST"})


def build(
    config: GatewayConfig,
    *,
    siblings: Forwarder,
    clock: Clock,
    version: str,
    grpc_address: Callable[[], str],
) -> Gateway:
    """Returns the gateway; `grpc_address` tells where agents reach the gRPC listener, asked at each request."""
    return Gateway(
        config, siblings=siblings, clock=clock, version=version, grpc_address=grpc_address
    )
