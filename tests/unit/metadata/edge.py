"""Services behind a real gRPC listener on loopback, and real siblings that call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from runyard_server.domain.addresses import Address
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import DomainError
from runyard_server.rpc.errors import from_rpc_error
from runyard_server.rpc.interceptors import EdgeConfig
from runyard_server.rpc.listener import Listener, ListenerConfig
from runyard_server.rpc.service import Service
from runyard_server.rpc.siblings import Siblings, SiblingsConfig


@dataclass(frozen=True, slots=True)
class Edge:
    """A channel to the services."""

    channel: grpc.aio.Channel
    siblings: Siblings


@asynccontextmanager
async def serve(make_services: Callable[[Siblings], Sequence[Service]]) -> AsyncIterator[Edge]:
    """Serves until the block ends."""
    clock = SystemClock()
    siblings = Siblings(SiblingsConfig(), clock=clock)
    listener = Listener(ListenerConfig(), EdgeConfig(), clock=clock)
    services = make_services(siblings)
    address = listener.bind(Address("127.0.0.1", 0), is_explicit=True)
    siblings.connect({service.name: str(address) for service in services})
    listener.register(services)
    await listener.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        yield Edge(channel, siblings)
    await siblings.close()
    await listener.stop(1.0)


async def refusal(call: grpc.aio.UnaryUnaryCall[object, object]) -> DomainError:
    """Returns the error that the call ends with, as the domain's."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error, service="test")
    raise AssertionError("the call was answered")
