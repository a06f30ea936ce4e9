"""What the runs of an agent share: the machine that they are on, and the servers that they go to."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Callable

from runyard.agent.budget import Budget
from runyard.agent.heartbeat import Heart
from runyard.agent.ports import Disk, Pod, Processes, Transport
from runyard.agent.retry import Reach, Repeater

if TYPE_CHECKING:
    from runyard.agent.system_watch import SystemWatch


@dataclasses.dataclass(frozen=True)
class World:
    """What all runs of an agent share."""

    disk: Disk
    budget: Budget
    time_unix_ns: Callable[[], int]
    processes: Processes | None = None
    """None: only locks tell whether a training process lives."""
    pod: Pod | None = None
    """None: nobody is asked why a process was ended."""
    system: SystemWatch | None = None
    """None: nothing is sampled."""


@dataclasses.dataclass(frozen=True)
class Server:
    """One server, and what is known of it."""

    base_url: str
    transport: Transport
    reach: Reach
    repeater: Repeater
    heart: Heart
