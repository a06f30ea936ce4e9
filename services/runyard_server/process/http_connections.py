"""HTTP connections that are closed when a request does not arrive whole in time, be it its headers or its body."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runyard_server import telemetry


class BoundedConnection(HttpToolsProtocol):
    """One connection; while a request is being answered, how long its body may take is the answer's matter."""

    arrival_limit_s: ClassVar[float] = 60.0
    """From the opening, or the first byte of a request, to its last; twice what the gateway gives a body."""
    _arrival: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Waits for the first request, but not for ever."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Waits for the rest of the request."""
        self._expect()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Notes that the request is here; the next one may take the time that an idle connection has."""
        self._expect_nothing()
        super().on_message_complete()

    def _expect(self) -> None:
        self._expect_nothing()
        self._arrival = self.loop.call_later(self.arrival_limit_s, self._give_up)

    def _expect_nothing(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _give_up(self) -> None:
        if (
            self.cycle is not None  # type: ignore[redundant-expr]  # is None before the first request
            and not self.cycle.response_complete
        ):
            self._expect()
            return
        telemetry.HTTP_REFUSED.labels("arrival").inc()
        self.transport.close()
