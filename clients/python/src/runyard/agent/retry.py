"""Repeats calls until the server takes them: when, how long to pause, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable, TypeVar

from runyard.errors import Error, Internal, NotOffered, Unavailable

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
PAUSE_MAX_S = 5.0
UNREACHABLE, TIMED_OUT = "UNREACHABLE", "TIMED_OUT"
"""Reasons of an Unavailable that no server said: no connection, or no answer in time."""
DELAY_MAX_S = 30.0
"""Longest pause that a server may ask for."""
INTERNAL_REPEAT_COUNT_MAX = 12
"""How often a call that a bug of the server fails is repeated before it counts as refused."""


class Reach:
    """Knows whether the server answers, and tells whoever listens when that changes."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.is_reachable: bool | None = None
        """None: no call has ended yet."""
        self.message = ""
        self.since_s = now_s()
        self._now_s = now_s
        self._listeners: list[Callable[[], None]] = []
        self._back: asyncio.Event | None = None

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls the listener at each change from now on; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    async def pause(self, pause_s: float) -> None:
        """Sleeps; if the server does not answer, only until it does again."""
        if self.is_reachable:
            await asyncio.sleep(pause_s)
            return
        if self._back is None:  # made on the loop that it is waited on
            self._back = asyncio.Event()
        try:
            await asyncio.wait_for(self._back.wait(), pause_s)
        except asyncio.TimeoutError:
            return

    def answered(self) -> None:
        """Takes note of an answer of any kind."""
        self._set(True, "")

    def failed(self, error: Error) -> None:
        """Takes note of a call that got no answer."""
        self._set(False, error.message)

    @property
    def unreachable_s(self) -> float:
        """Returns for how long no call got an answer; 0 while calls do."""
        return 0.0 if self.is_reachable else self._now_s() - self.since_s

    def _set(self, is_reachable: bool, message: str) -> None:
        self.message = message
        if is_reachable == self.is_reachable:
            return
        if self.is_reachable is not None or is_reachable:
            self.since_s = self._now_s()
        self.is_reachable = is_reachable
        if self._back is not None and is_reachable:
            self._back.set()
        elif self._back is not None:
            self._back.clear()
        for listener in list(self._listeners):
            listener()


def is_repeatable(error: Error) -> bool:
    """Returns whether a repeat of the call may pass."""
    return error.retry_delay_s is not None or isinstance(error, (Unavailable, NotOffered))


def is_unanswered(error: Error) -> bool:
    """Returns whether nobody answered, as against a server that says that something behind it does not."""
    return isinstance(error, Unavailable) and error.reason in ("", UNREACHABLE, TIMED_OUT)


class Repeater:
    """Repeats calls to one server with growing pauses."""

    def __init__(self, reach: Reach, *, draw: Callable[[], float]) -> None:
        self.reach = reach
        self._draw = draw
        """Returns a number from 0 to 1, so that agents do not come back all at once."""

    async def call(
        self,
        make: Callable[[], Awaitable[T]],
        *,
        on_pause: Callable[[Error], Any] = lambda error: None,
        repeat_count_max: int | None = None,
    ) -> T:
        """Returns the first answer. Raises the first refusal for good; an unreachable server is waited for.

        With `repeat_count_max`, errors that the server answered with are repeated so often only.
        """
        pause_s, count, internal_count = FIRST_PAUSE_S, 0, 0
        while True:
            try:
                answer = await make()
            except Error as error:
                count += not is_unanswered(error)
                internal_count += isinstance(error, Internal)
                self._note(error)
                is_internal = (
                    isinstance(error, Internal) and internal_count < INTERNAL_REPEAT_COUNT_MAX
                )
                is_over = repeat_count_max is not None and count > repeat_count_max
                if is_over or not (is_repeatable(error) or is_internal):
                    raise
                on_pause(error)
                wanted_s = min(DELAY_MAX_S, error.retry_delay_s or 0.0)
                await self.reach.pause(max(wanted_s, pause_s * (0.5 + self._draw() / 2)))
                pause_s = min(PAUSE_MAX_S, pause_s * 2)
            else:
                self.reach.answered()
                return answer

    def _note(self, error: Error) -> None:
        if is_unanswered(error):
            self.reach.failed(error)
        else:
            self.reach.answered()
