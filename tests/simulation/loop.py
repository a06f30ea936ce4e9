"""The virtual-time event loop: `select` moves a clock instead of waiting, so hours of a run cost milliseconds.

Production coroutines run on it unchanged; `asyncio.sleep` and `asyncio.timeout` just work. There are no threads and no
sockets. One program with one seed gives one trace. A state in which everybody waits and no timer is set is an error.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TIME_LIMIT_S = 48 * 3600.0
STEPS_MAX = 5_000_000


class Deadlock(Exception):
    """Every task waits for another, and no timer is set."""


class RanAway(Exception):
    """The simulation passed its limit of virtual time or of steps without an end."""


class VirtualSelector(selectors.SelectSelector):
    """Has nothing to wait for but time, which it moves itself. The loop's own wake-up pipe is never ready."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.steps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.steps += 1
        if timeout is None:
            raise Deadlock(f"nothing can happen any more at {self.now_s:.6f} s")
        if timeout > 0:
            self.now_s += timeout
        if self.now_s > TIME_LIMIT_S or self.steps > STEPS_MAX:
            raise RanAway(f"no end after {self.now_s:.0f} s of virtual time, {self.steps} steps")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its selector's."""

    def __init__(self) -> None:
        self.clock = VirtualSelector()
        super().__init__(self.clock)
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.unhandled.append(context))
        # A timer that is due within this is due now; the default asks the machine's clock for its resolution.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.clock.now_s

    def run_in_executor(self, executor: object, func: object, *args: object) -> asyncio.Future[Any]:
        raise AssertionError(f"a thread in a simulation: {func}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Returns what the coroutine returns; raises what a background task left unhandled, too."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
    if loop.unhandled:
        first = loop.unhandled[0]
        raise AssertionError(f"unhandled in a task: {first}") from first.get("exception")
    return result
