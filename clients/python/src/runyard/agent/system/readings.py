"""What is read of a machine and of its processes before anything is computed, and who reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class ProcessReading:
    """One process at one moment; times are of all its threads that are and were."""

    pid: int
    parent_pid: int
    start_ticks: int
    """When it started, in clock ticks after the boot: with the pid, who it is."""
    is_zombie: bool
    cpu_s: float
    reaped_cpu_s: float
    """CPU time of its descendants that ended and were waited for."""
    thread_count: int
    rss_bytes: int


@dataclasses.dataclass(frozen=True)
class NodeReading:
    """The machine at one moment; None and absent rows are what could not be read. Counters are since the boot."""

    cpu_busy_s: float | None = None
    cpu_total_s: float | None = None
    """Busy and idle time of all cores together."""
    cpu_count: int | None = None
    load_1m: float | None = None
    load_5m: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_bytes: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Read and written, by whole device."""
    network_bytes: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Sent and received, by interface that leads out of the machine."""


class Machine(Protocol):
    """Reads the machine that this process is on. What cannot be read is absent; no method raises OSError."""

    def read_node(self) -> NodeReading:
        """Returns the machine's counters as they are now."""

    def read_processes(self) -> dict[int, ProcessReading]:
        """Returns every process that may be seen, by pid."""

    def disk_bytes_of(self, pid: int) -> tuple[int, int] | None:
        """Returns what the process read from and wrote to disks, with its descendants that were waited for; None if unknown."""
