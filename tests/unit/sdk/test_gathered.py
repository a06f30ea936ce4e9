"""Calls that are gathered: those that come while one is under way go together; each has its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from runyard.agent.gathered import IN_FLIGHT_MAX, Gathered
from runyard.errors import Error, NotFound, Unavailable


class Server:
    """Answers n with n + 1, and odd numbers from 100 on with an error."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.failure: Error | None = None

    async def call(self, items: Sequence[int]) -> Sequence[int | Error]:
        self.calls.append(list(items))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        await asyncio.sleep(0.01)
        self.in_flight -= 1
        if self.failure is not None:
            raise self.failure
        return [NotFound(str(n)) if n >= 100 and n % 2 else n + 1 for n in items]


async def test_many_share_few_calls() -> None:
    """None holds more than the limit, no more than two are under way, and each gets its answer."""
    server = Server()
    gathered: Gathered[int, int] = Gathered(server.call, count_max=10)
    answers = await asyncio.gather(*(gathered.ask(n) for n in range(95)))
    assert answers == list(range(1, 96))
    assert max(map(len, server.calls)) == 10
    assert len(server.calls) <= 11
    assert server.in_flight_max <= IN_FLIGHT_MAX
    assert await gathered.ask(7) == 8


async def test_an_error_of_one_is_its_own() -> None:
    """The others have their answers; an error of the call is everybody's."""
    server = Server()
    gathered: Gathered[int, int] = Gathered(server.call, count_max=10)
    answers = await asyncio.gather(*(gathered.ask(n) for n in (1, 101, 2)), return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 3)
    assert isinstance(answers[1], NotFound)
    server.failure = Unavailable("away")
    answers = await asyncio.gather(*(gathered.ask(n) for n in (1, 2)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)


async def test_who_gives_up_holds_nobody_up() -> None:
    """A cancelled caller is left out; stopping cancels those that wait."""
    server = Server()
    gathered: Gathered[int, int] = Gathered(server.call, count_max=10)
    tasks = [asyncio.ensure_future(gathered.ask(n)) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert await tasks[2] == 3
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    waiting = asyncio.ensure_future(gathered.ask(9))
    await asyncio.sleep(0.001)
    await gathered.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
