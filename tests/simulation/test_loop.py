"""The simulator's own floor: time moves only when nobody can act, and a standstill is an error."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.simulation.loop import Deadlock, run


def test_a_day_passes_at_once() -> None:
    """Sleeping takes virtual time, exactly, and no real time."""

    async def main() -> float:
        await asyncio.gather(asyncio.sleep(86_400.0), asyncio.sleep(3.5))
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main()) == 86_400.0
    assert time.monotonic() - began < 1.0


def test_timeouts_fire_in_order() -> None:
    """A deadline fires at its time, before what would have come later."""
    order = []

    async def wait(name: str, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.Event().wait()
        except TimeoutError:
            order.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(wait("late", 7.0), wait("soon", 2.0))

    run(main())
    assert order == [("soon", 2.0), ("late", 7.0)]


def test_a_standstill_is_an_error() -> None:
    """Waiting for what nobody will do raises instead of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(main())


def test_errors_of_background_tasks_are_not_lost() -> None:
    """A task that nobody awaits fails the simulation."""

    async def fail() -> None:
        raise ValueError("lost")

    async def main() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(1)
        del task

    with pytest.raises(AssertionError, match="unhandled"):
        run(main())
