"""Beats for all live runs of one server in one call."""

from __future__ import annotations

import asyncio
import logging
from typing import Callable

from runyard.agent.ports import Beat, BeatAnswer, StopOrder, Transport
from runyard.agent.retry import UNREACHABLE, Reach
from runyard.errors import Error

INTERVAL_S = 5.0
"""Pause between beats until the server names one."""
INTERVAL_MIN_S, INTERVAL_MAX_S = 0.5, 60.0
RETRY_S = 2.0
"""Pause after a beat that got no answer."""
FIRST_BEAT_S = 0.05
"""A new run's first beat waits for others that begin at once."""
BEAT_COUNT_MAX = 10_000

_log = logging.getLogger("runyard.agent")


class Heart:
    """Beats while there are runs; runs come and go by `add`."""

    def __init__(self, transport: Transport, reach: Reach, *, agent_id: str) -> None:
        self._transport = transport
        self._reach = reach
        self._agent_id = agent_id
        self._sources: dict[object, Callable[[], Beat]] = {}
        self._stops: dict[object, tuple[int, Callable[[StopOrder], None]]] = {}
        self._woken = asyncio.Event()
        self._told_keys: set[int] = set()

    def add(
        self, source: Callable[[], Beat], run_key: int, on_stop: Callable[[StopOrder], None]
    ) -> Callable[[], None]:
        """Beats for one more run from now on, and tells it when it shall stop; returns what ends that."""
        key = object()
        self._sources[key] = source
        self._stops[key] = (run_key, on_stop)
        self._woken.set()

        def end() -> None:
            self._sources.pop(key, None)
            self._stops.pop(key, None)

        return end

    async def run(self) -> None:
        """Beats until cancelled."""
        pause_s = INTERVAL_S
        while True:
            try:
                await asyncio.wait_for(self._woken.wait(), pause_s if self._sources else None)
                self._woken.clear()
                await asyncio.sleep(FIRST_BEAT_S)
            except asyncio.TimeoutError:
                pass  # time for the next beat
            pause_s = await self._beat()

    async def _beat(self) -> float:
        """Beats once; returns the pause until the next."""
        beats = [source() for source in list(self._sources.values())[:BEAT_COUNT_MAX]]
        if not beats:
            return INTERVAL_S
        try:
            answer = await self._transport.heartbeat(self._agent_id, beats)
        except Error as error:
            _log.debug("beat_failed %s", error.message)
            if error.reason == UNREACHABLE:
                self._reach.failed(error)
            return RETRY_S
        self._reach.answered()
        self._heed(answer)
        wanted_s = answer.next_beat_s or INTERVAL_S
        return max(INTERVAL_MIN_S, min(INTERVAL_MAX_S, wanted_s))

    def _heed(self, answer: BeatAnswer) -> None:
        for run_key in answer.unknown_run_keys:
            if run_key not in self._told_keys:
                self._told_keys.add(run_key)
                _log.warning("run_unknown %d: the server does not know it (any more)", run_key)
        for order in answer.stop_orders:
            for run_key, on_stop in list(self._stops.values()):
                if run_key == order.run_key:
                    on_stop(order)
