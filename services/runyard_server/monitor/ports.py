"""What the monitor asks of others: metadata, and the other replicas of the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runyard_server.domain.beats import Beat, HeartbeatAnswer, Liveness, MonitorReplica, RunWriters
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.run import (
    LiveRun,
    RunDocument,
    RunKey,
    RunState,
    StopStatus,
    TransitionCause,
)

ACTOR = "monitor"
"""Who the monitor is in transitions and events."""


class RunDirectory(Protocol):
    """What the monitor asks of metadata; rpc.siblings.Siblings has it."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns the run; raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable."""
        ...

    async def record_transition(
        self,
        run_key: RunKey,
        *,
        from_state: RunState,
        to_state: RunState,
        cause: TransitionCause,
        evidence: str,
        actor: str,
        attempt_count: int,
        end_time_unix_ns: int | None,
    ) -> tuple[bool, RunState]:
        """Returns whether the state changed by this call, and the state now."""
        ...

    async def record_run_event(
        self,
        run_key: RunKey,
        *,
        kind: RunEventKind,
        evidence: str,
        actor: str,
        attempt_count: int,
        writer: int = 0,
        since_unix_ns: int | None = None,
    ) -> bool:
        """Returns whether what was seen of a live run was news."""
        ...

    async def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        """Tells when runs last gave a sign of life; at most 10,000."""
        ...

    async def list_live_runs(self) -> list[LiveRun]:
        """Returns all live runs."""
        ...

    async def list_open_writers(self, run_key: RunKey) -> set[int]:
        """Returns the writers of a run that have not ended and were not replaced by a later process."""
        ...

    async def list_stop_requests(self) -> dict[RunKey, StopStatus]:
        """Returns the stops that are asked for and not done."""
        ...

    async def renew_monitor_replica(
        self, replica_id: str, *, address: str, lease_s: float, is_leaving: bool
    ) -> tuple[MonitorReplica, ...]:
        """Returns the living replicas of the monitor."""
        ...


class Peers(Protocol):
    """The other replicas of the monitor; rpc.monitor_peers.MonitorPeers has it.

    Each call raises a DomainError if the replica refuses or does not answer in time.
    """

    async def pass_on(
        self,
        peer: MonitorReplica,
        *,
        replica_id: str,
        beats: Sequence[Beat],
        has_more: bool,
        timeout_s: float,
    ) -> HeartbeatAnswer:
        """Passes on beats; `replica_id` is the sender's."""
        ...

    async def get_liveness(
        self, peer: MonitorReplica, paths: Sequence[str], *, timeout_s: float
    ) -> list[Liveness]:
        """Returns what the replica itself knows of the runs."""
        ...

    async def list_writers(
        self, peer: MonitorReplica, path: str, *, timeout_s: float
    ) -> RunWriters:
        """Returns what the replica itself knows of the writers of a run."""
        ...

    async def hang_up(self, peer: MonitorReplica) -> None:
        """Closes the connection to a replica that is gone."""
        ...
