"""Beats of agents, what they are answered, and what the monitor knows of live runs and their writers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from runyard_server.domain.run import RunKey, StopStatus


class Beat(NamedTuple):
    """One sign of life of one writer, as an agent told it.

    A named tuple, not a frozen dataclass as other values are: ten thousand are made for one message, at a third of the cost.
    """

    run_key: RunKey
    writer: int
    is_process_alive: bool = True
    last_step: int | None = None
    records_written: int = 0
    records_durable: int = 0
    age_s: float = 0.0
    """How long ago a replica of the monitor heard it that passes it on only now."""
    agent_id: str = ""
    """The agent, where that is not the message's own: in what a replica passes on."""


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What an agent is told, or a replica that passed beats on."""

    next_beat_s: float
    unknown_run_keys: tuple[RunKey, ...] = ()
    """Runs that the server does not know."""
    stop_orders: tuple[tuple[RunKey, StopStatus], ...] = ()
    """Runs that a user wants stopped."""
    refused_run_keys: tuple[RunKey, ...] = ()
    """Of beats that were passed on: runs that are another replica's by what the receiver knows."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """What is known of one live run."""

    run_path: str
    crash_timeout_s: float
    last_beat_unix_ns: int | None
    """Server time of the last beat; None: none since the monitor learned of the run."""
    records_written: int
    records_durable: int
    last_step: int | None = None
    progress_unix_ns: int | None = None
    """Server time at which the last new step was heard of; None: none since the monitor learned of the run."""
    stalled_since_unix_ns: int | None = None
    writers_beating: int = 0
    writers_silent: int = 0
    straggler_count: int = 0


@dataclass(frozen=True, slots=True)
class WriterLiveness:
    """What is known of one writer of a live run."""

    writer: int
    last_beat_unix_ns: int | None
    """Server time of its last beat; None: none since the monitor learned of the run."""
    last_step: int | None
    records_written: int
    records_durable: int
    is_straggler: bool
    is_silent: bool
    is_process_alive: bool
    agent_id: str


@dataclass(frozen=True, slots=True)
class RunWriters:
    """The writers of a live run beside each other."""

    writers: tuple[WriterLiveness, ...]
    """By number."""
    median_step: int | None
    straggler_steps: int
    """Steps behind the median that make a straggler."""


@dataclass(frozen=True, slots=True)
class MonitorReplica:
    """One process of the monitor that shares the runs with others."""

    replica_id: str
    address: str
    """Where it answers, HOST:PORT."""
