"""Stops that users asked for: read from metadata about each second, handed to agents in the answers to their beats."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from runyard_server.domain.beats import Beat
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey, StopStatus
from runyard_server.monitor.ports import RunDirectory

STOPS_OPEN = Gauge("runyard_monitor_stops_open", "Stops that are asked for and not done.")
STOP_POLLS = Counter(
    "runyard_monitor_stop_polls_total",
    "Times that the open stops were read, by result.",
    ["result"],
)
QUIET_S = 60.0
"""After so long without a beat nobody is there to be told, and the list is not read."""


class Stops:
    """The open stops, as metadata listed them last; every replica knows all of them."""

    def __init__(self, *, directory: RunDirectory, clock: Clock, call_timeout_s: float) -> None:
        self._directory = directory
        self._clock = clock
        self._call_timeout_s = call_timeout_s
        self._open: dict[RunKey, StopStatus] = {}
        self._asked_for_s = float("-inf")

    def orders_for(self, beats: Sequence[Beat]) -> tuple[tuple[RunKey, StopStatus], ...]:
        """Returns the open stops of the runs that beat."""
        self._asked_for_s = self._clock.monotonic_s()
        if not self._open:
            return ()
        return tuple(
            (run_key, self._open[run_key])
            for run_key in dict.fromkeys(beat.run_key for beat in beats)
            if run_key in self._open
        )

    async def poll(self) -> None:
        """Reads the open stops; keeps what it knew if metadata does not answer."""
        if self._clock.monotonic_s() > self._asked_for_s + QUIET_S:
            return
        try:
            async with asyncio.timeout(self._call_timeout_s):
                self._open = await self._directory.list_stop_requests()
        except (DomainError, TimeoutError):
            STOP_POLLS.labels("failed").inc()
            return
        STOP_POLLS.labels("ok").inc()
        STOPS_OPEN.set(len(self._open))

    async def keep_polling(self, interval_s: float) -> None:
        """Polls until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(interval_s)
