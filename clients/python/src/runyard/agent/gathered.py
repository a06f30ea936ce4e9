"""Joins calls for single things that come while one is under way into the next, so that many share one exchange with the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Callable, Generic, TypeVar

from runyard.errors import Error

A = TypeVar("A")
R = TypeVar("R")

IN_FLIGHT_MAX = 2
"""Calls under way at once: while one waits for the server's disk, another is on its way."""


class Gathered(Generic[A, R]):
    """Asks for one thing at a time, and calls for many. `call` returns an answer or an error for each."""

    def __init__(
        self,
        call: Callable[[Sequence[A]], Awaitable[Sequence[R | Error]]],
        *,
        count_max: int,
    ) -> None:
        self._call = call
        self._count_max = count_max
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, item: A) -> R:
        """Returns the answer for one; raises the error for it, or that of the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._tasks) < IN_FLIGHT_MAX:
            task = loop.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def stop(self) -> None:
        """Ends what is under way; who waits for it is cancelled."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        await asyncio.sleep(0)  # those that ask in the same moment go together
        while self._waiting:
            batch = self._waiting[: self._count_max]
            del self._waiting[: self._count_max]
            try:
                answers = await self._call([item for item, _ in batch])
            except Error as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            except BaseException:
                for _, future in batch:
                    future.cancel()
                raise
            else:
                for (_, future), answer in zip(batch, answers):
                    if future.done():
                        continue
                    if isinstance(answer, Error):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
