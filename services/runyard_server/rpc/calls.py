"""What is known of the call being answered: its request id and its deadline, carried to the calls that it makes."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from runyard_server.domain.clock import Clock

REQUEST_ID_KEY: Final = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """The call being answered in this task."""

    request_id: str
    method: str
    deadline_monotonic_s: float | None
    """When the caller stops waiting, by Clock.monotonic_s; None: never."""


_current: ContextVar[Call | None] = ContextVar("runyard_call", default=None)


def current_call() -> Call | None:
    """Returns the call being answered in this task, or None outside of one."""
    return _current.get()


def enter_call(call: Call) -> None:
    """Makes `call` the current one of this task; a task answers one call, so nothing resets it."""
    _current.set(call)


def draw_request_id(clock: Clock) -> str:
    """Returns a new request id of 16 hexadecimal digits."""
    return f"{clock.random_bits(64):016x}"


def accept_request_id(given: str | None, clock: Clock) -> str:
    """Returns the caller's request id if it is a plain word of at most 64 characters, else a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return draw_request_id(clock)
