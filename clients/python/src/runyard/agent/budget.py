"""Bounds the memory of an agent."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """Bounds the bytes that wait for answers, over all runs of an agent."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used_bytes = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size_bytes: int) -> None:
        """Returns when the bytes fit; what is larger than the whole fits when it is alone."""
        if not self._waiters and self._fits(size_bytes):
            self._used_bytes += size_bytes
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((size_bytes, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give(size_bytes)
            raise

    def give(self, size_bytes: int) -> None:
        """Gives bytes back."""
        self._used_bytes -= size_bytes
        while self._waiters and (self._waiters[0][1].done() or self._fits(self._waiters[0][0])):
            wanted, waiter = self._waiters.popleft()
            if not waiter.done():
                self._used_bytes += wanted
                waiter.set_result(None)

    def _fits(self, size_bytes: int) -> bool:
        return not self._used_bytes or self._used_bytes + size_bytes <= self._bytes_max
