"""What a service is to the process that runs it: register, start, run, stop."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import grpc.aio


class Service(Protocol):
    """One service of the suite, as `<service>/service.py` builds it.

    The process calls `start` of all services in dependency order, then `register` of all, then opens the listener, then
    awaits `run` of all at once; on shutdown it closes the listener first, then cancels `run`, then calls `stop` in reverse order.
    """

    name: str
    """Name of the target: ingest, query, metadata, files, monitor or gateway."""

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the servicers to the server and returns their full protobuf names (for health and reflection)."""
        ...

    async def start(self) -> None:
        """Makes ready to serve: migrations, caches. Raises if it cannot; the process then ends."""
        ...

    async def run(self) -> None:
        """Does background work until cancelled. A return or an exception before that ends the process."""
        ...

    async def stop(self) -> None:
        """Drains what is in flight. Called once, after the listener is closed."""
        ...


@runtime_checkable
class Forewarned(Protocol):
    """A service that wants to know of the end while the other services still answer."""

    async def begin_stop(self) -> None:
        """Does what needs the others. Called once on an orderly stop, before the listener closes; `run` goes on."""
        ...
