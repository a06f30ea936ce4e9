"""Starts the parts of a process in order, watches them, and stops them in the opposite order, each within a limit.

start:  stores -> HTTP (not ready) -> services -> gRPC listener -> ready
stop:   not ready -> shutdown delay -> services forewarned -> listeners (grace) -> background work -> services drain -> stores close
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from runyard_server import telemetry
from runyard_server.rpc.service import Forewarned, Service

log = logging.getLogger("runyard.process")

REASON_LENGTH_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class LifecycleConfig:
    """How long each step of start and stop may take."""

    start_limit_s: float = 60.0
    """One service's start, migrations included."""
    shutdown_delay_s: float = 0.0
    """Between saying "not ready" and closing the listeners; in a cluster, the time that load balancers need to notice."""
    grace_limit_s: float = 5.0
    """Calls in flight when the listeners close."""
    drain_limit_s: float = 10.0
    """One service's drain."""
    close_limit_s: float = 12.0
    """One store's closing."""


class Listener(Protocol):
    """What takes calls from outside: opens last, closes first."""

    async def start(self) -> None:
        """Begins to answer."""
        ...

    async def begin_stop(self) -> None:
        """Says "not ready", and goes on answering."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Takes no more; waits up to `grace_s` for what is in flight."""
        ...


@dataclass(frozen=True, slots=True)
class Resource:
    """Something opened that must be closed: a store, a child process, channels."""

    name: str
    close: Callable[[], Awaitable[None]]
    run: Callable[[], Awaitable[None]] | None = None
    """Background work of its own, watched as a service's is."""


@dataclass(slots=True)
class Assembly:
    """All parts of a process, made but not started; resources are open already, in the order listed."""

    resources: list[Resource] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    """Opened in this order after the services, closed together."""
    register: Callable[[Sequence[Service]], object] = lambda services: None
    """Adds the services' handlers to the gRPC server; called once, before any listener opens."""
    on_ready: Callable[[], Awaitable[None]] | None = None
    """Checks that everything answers, and tells so."""


class PartFailed(Exception):
    """A part of the process failed; the process must end, non-zero, and say this."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class Lifecycle:
    """Runs one assembly from start to stop."""

    def __init__(self, assembly: Assembly, config: LifecycleConfig) -> None:
        self._assembly = assembly
        self._config = config
        self._started: list[Service] = []
        self._opened: list[Listener] = []
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._overruns: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Starts all, waits for `stop` or a failure, stops all. Raises PartFailed if any part failed or overran its limit."""
        failure: PartFailed | None = None
        try:
            await self._start(stop)
            await self._watch(stop)
        except PartFailed as error:
            failure = error
        finally:
            await self._stop()
        if failure is not None:
            raise failure
        if self._overruns:
            raise PartFailed("stop", "; ".join(self._overruns))

    async def _start(self, stop: asyncio.Event) -> None:
        for resource in self._assembly.resources:
            if resource.run is not None:
                self._spawn(resource.name, resource.run())
        for service in self._assembly.services:
            telemetry.SERVICE_READY.labels(service.name).set(0)
            await self._bounded(service.name, service.start(), self._config.start_limit_s)
            self._started.append(service)
            log.debug(telemetry.EVENT_SERVICE_STARTED, extra={"fields": {"service": service.name}})
            if stop.is_set():
                return
        self._assembly.register(self._assembly.services)
        for service in self._assembly.services:
            self._spawn(service.name, service.run())
        for listener in self._assembly.listeners:
            self._opened.append(listener)
            await self._bounded("listener", listener.start(), self._config.start_limit_s)
        if self._assembly.on_ready is not None:
            await self._bounded("ready", self._assembly.on_ready(), self._config.start_limit_s)
        for service in self._assembly.services:
            telemetry.SERVICE_READY.labels(service.name).set(1)

    async def _watch(self, stop: asyncio.Event) -> None:
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([stopping, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for task, name in self._tasks.items():
            if not task.done():
                continue
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise PartFailed(name, describe(error)) from error
            if not stop.is_set():
                raise PartFailed(name, "ended although nobody asked it to")

    async def _stop(self) -> None:
        for service in self._assembly.services:
            telemetry.SERVICE_READY.labels(service.name).set(0)
        for listener in self._opened:
            await self._closing("listener", listener.begin_stop(), self._config.close_limit_s)
        if self._opened and self._config.shutdown_delay_s:
            await asyncio.sleep(self._config.shutdown_delay_s)
        for service in self._started:
            if isinstance(service, Forewarned):
                await self._closing(service.name, service.begin_stop(), self._config.drain_limit_s)
        grace_s = self._config.grace_limit_s
        await asyncio.gather(
            *(
                self._closing(
                    "listener", listener.stop(grace_s), grace_s + self._config.close_limit_s
                )
                for listener in self._opened
            )
        )
        await self._cancel_tasks()
        for service in reversed(self._started):
            await self._closing(service.name, service.stop(), self._config.drain_limit_s)
            log.debug(telemetry.EVENT_SERVICE_STOPPED, extra={"fields": {"service": service.name}})
        for resource in reversed(self._assembly.resources):
            await self._closing(resource.name, resource.close(), self._config.close_limit_s)

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._config.drain_limit_s)
            for task in late:
                self._overrun(self._tasks[task], self._config.drain_limit_s)

    def _spawn(self, name: str, work: Awaitable[None]) -> None:
        async def watched() -> None:
            await work

        self._tasks[asyncio.create_task(watched(), name=name)] = name

    async def _bounded(self, name: str, step: Awaitable[object], limit_s: float) -> None:
        scope = asyncio.timeout(limit_s)
        try:
            async with scope:
                await step
        except TimeoutError as error:
            if scope.expired():
                raise PartFailed(name, f"did not start within {limit_s:g} s") from error
            raise PartFailed(name, describe(error)) from error
        except Exception as error:
            raise PartFailed(name, describe(error)) from error

    async def _closing(self, name: str, step: Awaitable[object], limit_s: float) -> None:
        """Awaits one step of stopping; whatever it does, the next steps follow."""
        try:
            async with asyncio.timeout(limit_s) as scope:
                await step
        except TimeoutError:
            if scope.expired():
                self._overrun(name, limit_s)
            else:
                self._overruns.append(f"{name} failed to stop: timed out inside")
        except Exception as error:
            log.exception(telemetry.EVENT_PROCESS_FAILED, extra={"fields": {"part": name}})
            self._overruns.append(f"{name} failed to stop: {describe(error)}")

    def _overrun(self, name: str, limit_s: float) -> None:
        log.error(
            telemetry.EVENT_STOP_TIMED_OUT, extra={"fields": {"part": name, "limit_s": limit_s}}
        )
        self._overruns.append(f"{name} did not stop within {limit_s:g} s")


def describe(error: BaseException) -> str:
    """Returns an error in one line: its message, and its class where that says more."""
    text = str(error).strip()
    if isinstance(error, BaseExceptionGroup):
        text = "; ".join(describe(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {text}"[:REASON_LENGTH_MAX] if text else type(error).__name__
