"""The simulated world: chance from one seed, a clock that jumps, nodes that can die at any await."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)
EPOCH_UNIX_NS = 1_790_000_000_000_000_000


class Dead(BaseException):
    """Raised by everything outside a node once the node is dead, so that no `finally` can still act on the world."""


class Chance:
    """All that is drawn in a world; one seed, one sequence."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)

    def hits(self, probability: float) -> bool:
        """Returns True with that probability."""
        return self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        """Returns an integer of the closed range, each as likely."""
        return self.random.randint(low, high)

    def delay_s(self, mean_s: float) -> float:
        """Returns a delay, mostly short, sometimes long."""
        return self.random.expovariate(1.0 / mean_s)


class WorldClock:
    """The clock of one node: its wall clock jumps, its monotonic one never."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.skew_ns = 0

    def now_unix_ns(self) -> int:
        """Returns virtual time since the epoch of the world, and the skew of this node."""
        return EPOCH_UNIX_NS + round(self.monotonic_s() * 1e9) + self.skew_ns

    def monotonic_s(self) -> float:
        """Returns virtual time."""
        return asyncio.get_running_loop().time()

    def random_bits(self, bits: int) -> int:
        """Returns bits of the world's chance; the dead draw nothing."""
        check_caller()
        return self._chance.random.getrandbits(bits)

    def jump(self) -> None:
        """Moves the wall clock by up to an hour, either way."""
        self.skew_ns += round(self._chance.random.uniform(-3600e9, 3600e9))


def now(work: Coroutine[Any, Any, T]) -> T:
    """Returns what a coroutine returns that waits for nothing, as those of the memory stores."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the coroutine's own type
    raise AssertionError("it waits")


class Node:
    """A process on some machine: a set of tasks that can be killed at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        # Ordered, unlike a set of tasks, whose order differs from process to process.
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts work that belongs to this node, as all tasks that it starts in turn."""
        self.check()
        context = contextvars.copy_context()
        context.run(NODE.set, self)
        return context.run(asyncio.get_running_loop().create_task, work)

    def kill(self) -> None:
        """Ends everything of the node; its finally blocks run, and reach nothing."""
        self.is_alive = False
        for task in list(self.tasks):
            task.cancel()

    def check(self) -> None:
        """Raises Dead if the node is."""
        if not self.is_alive:
            raise Dead(self.name)


def adopt_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Makes every task know its node."""

    def make(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:
        task = asyncio.Task(work, loop=loop, **options)
        node = NODE.get()
        if node is not None:
            node.tasks[task] = None
            task.add_done_callback(lambda done: node.tasks.pop(done, None))
        return task

    loop.set_task_factory(make)  # type: ignore[arg-type]  # the stub wants Future, create_task wants Task
    loop.set_exception_handler(_note_unhandled)


def _note_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not _is_death(context.get("exception")):
        loop.unhandled.append(context)  # type: ignore[attr-defined]  # ours: simulation.loop.VirtualLoop


def _is_death(error: object) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_death, error.exceptions))
    return isinstance(error, (Dead, asyncio.CancelledError))


def check_caller() -> None:
    """Raises Dead if the node that runs now is dead."""
    node = NODE.get()
    if node is not None:
        node.check()
