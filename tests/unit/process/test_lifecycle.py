"""Start, failure, hanging and stop of a process, with small services that write down what happened to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio
import pytest

from runyard_server.process.lifecycle import (
    Assembly,
    Lifecycle,
    LifecycleConfig,
    PartFailed,
    Resource,
)

FAST = LifecycleConfig(start_limit_s=0.2, grace_limit_s=0.1, drain_limit_s=0.1, close_limit_s=0.1)


async def nothing() -> None:
    """Ends at once."""


async def for_ever() -> None:
    await asyncio.Event().wait()


class Scribe:
    """A service that writes its life into a shared list."""

    def __init__(
        self,
        name: str,
        events: list[str],
        *,
        start: Callable[[], Awaitable[None]] = nothing,
        run: Callable[[], Awaitable[None]] = for_ever,
        stop: Callable[[], Awaitable[None]] = nothing,
    ) -> None:
        self.name = name
        self._events = events
        self._start = start
        self._run = run
        self._stop = stop

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        return ()

    async def start(self) -> None:
        self._events.append(f"{self.name} start")
        await self._start()

    async def run(self) -> None:
        self._events.append(f"{self.name} run")
        try:
            await self._run()
        finally:
            self._events.append(f"{self.name} run ended")

    async def stop(self) -> None:
        self._events.append(f"{self.name} stop")
        await self._stop()


class ScribeListener:
    """A listener that writes its life into a shared list."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    async def start(self) -> None:
        self._events.append("listener open")

    async def begin_stop(self) -> None:
        self._events.append("not ready")

    async def stop(self, grace_s: float) -> None:
        self._events.append("listener closed")


def assembly(
    events: list[str], *services: Scribe, close: Callable[[], Awaitable[None]] = nothing
) -> Assembly:
    async def close_store() -> None:
        events.append("store closed")
        await close()

    async def ready() -> None:
        events.append("ready")

    return Assembly(
        resources=[Resource("store", close_store)],
        services=list(services),
        listeners=[ScribeListener(events)],
        register=lambda services: events.append("registered"),
        on_ready=ready,
    )


async def run_until_ready(parts: Assembly) -> None:
    """Runs the assembly and asks for the end as soon as it is ready."""
    stop = asyncio.Event()
    on_ready = parts.on_ready
    assert on_ready is not None

    async def stop_when_ready() -> None:
        await asyncio.sleep(0)
        await on_ready()
        stop.set()

    parts.on_ready = stop_when_ready
    async with asyncio.timeout(5):
        await Lifecycle(parts, FAST).run(stop)


async def test_order_of_start_and_stop() -> None:
    """Handlers are registered after every start and before the listener opens; it closes first, stores last."""
    events: list[str] = []
    await run_until_ready(assembly(events, Scribe("a", events), Scribe("b", events)))
    assert events == [
        "a start",
        "b start",
        "registered",
        "listener open",
        "a run",
        "b run",
        "ready",
        "not ready",
        "listener closed",
        "a run ended",
        "b run ended",
        "b stop",
        "a stop",
        "store closed",
    ]  # fmt: skip


async def test_who_wants_to_know_is_told_before_the_listener_closes() -> None:
    """A service with `begin_stop` is told of the end while calls are still answered; the others are not asked."""
    events: list[str] = []

    class ForewarnedScribe(Scribe):
        async def begin_stop(self) -> None:
            events.append(f"{self.name} forewarned")

    await run_until_ready(assembly(events, Scribe("a", events), ForewarnedScribe("b", events)))
    end = events[events.index("not ready") :]
    assert end[:3] == ["not ready", "b forewarned", "listener closed"]


async def test_failed_start_stops_what_had_started() -> None:
    """A service that cannot start ends the process with its name and reason; the ones before it are stopped."""
    events: list[str] = []

    async def fail() -> None:
        raise RuntimeError("no such table")

    parts = assembly(
        events, Scribe("a", events), Scribe("b", events, start=fail), Scribe("c", events)
    )
    with pytest.raises(PartFailed, match="b: RuntimeError: no such table"):
        await run_until_ready(parts)
    assert events == ["a start", "b start", "a stop", "store closed"]


async def test_hanging_start_is_bounded() -> None:
    """A start that never ends is given up at its limit."""
    events: list[str] = []
    with pytest.raises(PartFailed, match=r"a: did not start within 0\.2 s"):
        await run_until_ready(assembly(events, Scribe("a", events, start=for_ever)))
    assert events[-1] == "store closed"


async def test_failing_background_work_ends_the_process() -> None:
    """No half-alive process: when a service's work fails, all stops in order, and the reason is told."""
    events: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("queue is corrupt")

    parts = assembly(events, Scribe("a", events, run=fail), Scribe("b", events))
    with pytest.raises(PartFailed, match="a: ValueError: queue is corrupt"):
        async with asyncio.timeout(5):
            await Lifecycle(parts, FAST).run(asyncio.Event())
    assert events[-5:] == ["listener closed", "b run ended", "b stop", "a stop", "store closed"]


async def test_background_work_that_just_ends_is_a_failure() -> None:
    """Work that returns without being asked is as dead as work that raised."""
    events: list[str] = []
    parts = assembly(events, Scribe("a", events, run=nothing))
    with pytest.raises(PartFailed, match="a: ended although nobody asked"):
        async with asyncio.timeout(5):
            await Lifecycle(parts, FAST).run(asyncio.Event())


async def test_hanging_stop_is_bounded_and_told() -> None:
    """A drain that hangs is left behind at its limit; the rest still stops, and the exit is a failure."""
    events: list[str] = []
    parts = assembly(events, Scribe("a", events), Scribe("b", events, stop=for_ever))
    with pytest.raises(PartFailed, match=r"b did not stop within 0\.1 s"):
        await run_until_ready(parts)
    assert events[-2:] == ["a stop", "store closed"]


async def test_failing_close_does_not_hide_the_others() -> None:
    """A store that fails to close is named; nothing is skipped."""
    events: list[str] = []

    async def fail() -> None:
        raise OSError("disk is gone")

    with pytest.raises(PartFailed, match="store failed to stop: OSError: disk is gone"):
        await run_until_ready(assembly(events, Scribe("a", events), close=fail))


async def test_work_that_ignores_cancellation_is_left_behind() -> None:
    """Background work that does not let itself be cancelled cannot hold the process."""
    events: list[str] = []
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    parts = assembly(events, Scribe("a", events, run=stubborn))
    with pytest.raises(PartFailed, match=r"a did not stop within 0\.1 s"):
        await run_until_ready(parts)
    release.set()
    await asyncio.sleep(0)
    assert "store closed" in events


async def test_stop_during_start_is_obeyed() -> None:
    """A signal that comes while services start ends the start after the current one."""
    events: list[str] = []
    stop = asyncio.Event()

    async def signal() -> None:
        stop.set()

    parts = assembly(events, Scribe("a", events, start=signal), Scribe("b", events))
    await Lifecycle(parts, FAST).run(stop)
    assert events == ["a start", "a stop", "store closed"]


async def test_resource_that_watches_itself_can_end_the_process() -> None:
    """A store's own background work (a child process, a rollup) is watched as a service's is."""
    events: list[str] = []

    async def fail() -> None:
        raise RuntimeError("child is gone for good")

    parts = assembly(events, Scribe("a", events))
    parts.resources.append(Resource("s3", nothing, fail))
    with pytest.raises(PartFailed, match="s3: RuntimeError: child is gone"):
        async with asyncio.timeout(5):
            await Lifecycle(parts, FAST).run(asyncio.Event())
