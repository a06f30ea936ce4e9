"""The monitor service: takes heartbeats, and decides which runs are alive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio
from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import RunKey
from runyard_server.monitor.handler import MonitorHandler
from runyard_server.monitor.liveness import Beat, Liveness, LivenessRules, LivenessTable
from runyard_server.monitor.lookups import Lookups, RunDirectory
from runyard_server.monitor.sweeper import Sweeper

AGENT_ID_BYTES_MAX = 128
BEAT_COUNT_MAX = 10_000
PATH_COUNT_MAX = 1000

BEATS = Counter("runyard_monitor_beats_total", "Beats taken in: one for each run and writer.")


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """When silence counts as a crash."""

    crash_timeout_s: float = 60.0
    """Silence after which a run counts as crashed."""
    beat_interval_s: float = 10.0
    """How often agents are asked to beat; a run survives the loss of several beats in a row."""
    sweep_interval_s: float = 1.0
    """How often to look for silent runs."""
    refresh_interval_s: float = 15.0
    """How often all live runs are read from metadata."""
    record_interval_s: float = 30.0
    """How often metadata is told of the last beats, all runs in one call."""
    stall_limit_s: float = 5.0
    """Gap in the monitor's own sweeps after which it counts as having been away itself; all runs then get a full timeout."""
    call_timeout_s: float = 10.0
    """Longest wait for metadata."""
    lookup_timeout_s: float = 2.0
    """How long a heartbeat waits for metadata to say who an unknown run is; what is open then is asked at the next beat."""
    call_concurrency_max: int = 32
    """Calls to metadata in flight, for verdicts and for lookups each."""
    not_live_memory_s: float = 15.0
    """How long it is remembered that a run is not live, or not known, before metadata is asked again."""
    not_live_count_max: int = 100_000
    """How many such runs are remembered."""

    def __post_init__(self) -> None:
        if self.crash_timeout_s < 2 * self.beat_interval_s:
            raise ValueError(
                f"crash_timeout ({self.crash_timeout_s:g} s) must be at least twice beat_interval "
                f"({self.beat_interval_s:g} s), or one lost beat makes a crash"
            )
        if self.stall_limit_s < 2 * self.sweep_interval_s:
            raise ValueError(
                f"stall_limit ({self.stall_limit_s:g} s) must be at least twice sweep_interval "
                f"({self.sweep_interval_s:g} s), or the monitor takes its own pace for a stall"
            )


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What an agent is told."""

    next_beat_s: float
    unknown_run_keys: list[RunKey]


def build(config: MonitorConfig, *, siblings: RunDirectory, clock: Clock) -> MonitorService:
    """Returns the service, not started."""
    return MonitorService(config, siblings=siblings, clock=clock)


class MonitorService:
    """Answers the calls of MonitorService in the words of the domain."""

    name = "monitor"

    def __init__(self, config: MonitorConfig, *, siblings: RunDirectory, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._table = LivenessTable(
            LivenessRules(
                crash_timeout_s=config.crash_timeout_s, stall_limit_s=config.stall_limit_s
            )
        )
        self._lookups = Lookups(
            self._table,
            directory=siblings,
            clock=clock,
            concurrency_max=config.call_concurrency_max,
            memory_s=config.not_live_memory_s,
            memory_count_max=config.not_live_count_max,
        )
        self.sweeper = Sweeper(
            self._table,
            directory=siblings,
            clock=clock,
            concurrency_max=config.call_concurrency_max,
            call_timeout_s=config.call_timeout_s,
        )

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the servicer to the server."""
        return MonitorHandler(self).register(server)

    async def start(self) -> None:
        """Does nothing: memory is rebuilt once the services answer, by `run`."""

    async def run(self) -> None:
        """Watches until cancelled."""
        await self.sweeper.run(
            sweep_interval_s=self._config.sweep_interval_s,
            refresh_interval_s=self._config.refresh_interval_s,
            record_interval_s=self._config.record_interval_s,
        )

    async def begin_stop(self) -> None:
        """Has the beats noted while metadata answers for sure: in one process it stops answering when the monitor does."""
        self.sweeper.is_stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.lookup_timeout_s):
                await self.sweeper.record_beats()

    async def stop(self) -> None:
        """Has the last beats noted; a verdict that is not recorded yet comes up again after the next start."""
        await self.sweeper.record_beats()

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> HeartbeatAnswer:
        """Takes in the beats of one agent. Safe to repeat."""
        _check_count("agent_id", len(agent_id.encode()), AGENT_ID_BYTES_MAX, "bytes")
        _check_count("beats", len(beats), BEAT_COUNT_MAX, "entries")
        if not agent_id:
            raise InvalidArgument(
                "FIELD_INVALID",
                "agent_id is empty; send what identifies the agent process",
                metadata={"field": "agent_id", "value": ""},
            )
        BEATS.inc(len(beats))
        now_s, now_unix_ns = self._clock.monotonic_s(), self._clock.now_unix_ns()
        strange = [
            beat
            for beat in beats
            if not self._table.note_beat(
                beat, agent_id=agent_id, now_s=now_s, now_unix_ns=now_unix_ns
            )
        ]
        unknown: list[RunKey] = []
        if strange:
            unknown = await self._lookups.resolve(
                strange, agent_id=agent_id, timeout_s=self._config.lookup_timeout_s
            )
        return HeartbeatAnswer(self._config.beat_interval_s, unknown)

    async def get_liveness(self, paths: Sequence[str]) -> list[Liveness]:
        """Returns what is known of those of the runs that are live."""
        _check_count("run_paths", len(paths), PATH_COUNT_MAX, "entries")
        found = [self._table.find(path) for path in paths]
        return [liveness for liveness in found if liveness is not None]


def _check_count(field: str, value: int, limit: int, unit: str) -> None:
    if value > limit:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"{field} has {value} {unit}, at most {limit} are allowed",
            metadata={"field": field, "value": value, "limit": limit},
        )
