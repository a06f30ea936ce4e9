"""The gRPC listener of a process: binds early, opens last, closes first; health and reflection included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runyard_server.domain.addresses import Address
from runyard_server.domain.clock import Clock
from runyard_server.rpc.interceptors import EdgeConfig, EdgeInterceptor
from runyard_server.rpc.ports import PortTaken, candidates, port_taken
from runyard_server.rpc.service import Service


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """Options of the gRPC server."""

    request_bytes_max: int = 8 * 1024 * 1024
    """Largest request taken: two of the largest batches that agents send."""
    reply_bytes_max: int = 64 * 1024 * 1024
    """Largest answer given."""
    connection_age_max_s: float = 300.0
    """Age at which connections are asked to end, so that new replicas get their share."""
    connection_age_grace_s: float = 60.0
    """How long calls on such a connection may go on."""
    ping_interval_min_s: float = 5.0
    """Clients may ping this often."""
    streams_per_connection_max: int = 1024
    """Calls in flight on one connection."""


class Listener:
    """Serves the services of this process over gRPC."""

    def __init__(self, config: ListenerConfig, edge: EdgeConfig, *, clock: Clock) -> None:
        self._edge = EdgeInterceptor(edge, clock=clock)
        self._server = grpc.aio.server(interceptors=(self._edge,), options=_options(config))
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []

    def bind(self, address: Address, *, is_explicit: bool) -> Address:
        """Takes the port and returns where it is; calls wait until `start`.

        A taken port that was not asked for explicitly is replaced by the next free one. Raises PortTaken.
        """
        tried = candidates(address, is_explicit=is_explicit)
        for candidate in tried:
            try:
                return self._bind_one(candidate)
            except PortTaken:
                if candidate == tried[-1]:
                    raise
        raise AssertionError("unreachable: the last candidate returns or raises")

    def _bind_one(self, address: Address) -> Address:
        try:
            port = self._server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise port_taken(address, str(error)) from error
        if port == 0:
            raise port_taken(address, "the address cannot be bound")
        return Address(address.host, port)

    def register(self, services: Sequence[Service]) -> dict[str, tuple[str, ...]]:
        """Adds all services, health and reflection; returns the full names by service. Before `start` only."""
        names = {service.name: service.register(self._server) for service in services}
        self._names = [name for group in names.values() for name in group]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflected = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, self._server)
        return names

    async def start(self) -> None:
        """Begins to answer, and says so in the health service."""
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def begin_stop(self) -> None:
        """Tells the health service that this process is about to stop; calls are still answered."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Takes no further calls, waits for those in flight up to `grace_s`, then cancels them."""
        self._edge.is_stopping = True
        await self._server.stop(grace_s)

    async def _set_health(self, status: Any) -> None:
        for name in ("", *self._names):
            await self._health.set(name, status)


def _options(config: ListenerConfig) -> list[tuple[str, Any]]:
    return [
        # With it a second server on the same port would get half of the calls, silently.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.request_bytes_max),
        ("grpc.max_send_message_length", config.reply_bytes_max),
        ("grpc.max_connection_age_ms", round(config.connection_age_max_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(config.connection_age_grace_s * 1000)),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            round(config.ping_interval_min_s * 1000),
        ),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_concurrent_streams", config.streams_per_connection_max),
    ]
