"""The settings of the monitor, and what must hold between them."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_server.monitor.replicas import RosterRules

BEATS_PER_TIMEOUT = 4
"""A run may lose so many beats in a row, less one, before silence is a crash."""
BEAT_INTERVAL_FLOOR_S = 0.5


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """When silence counts as a crash."""

    crash_timeout_s: float = 60.0
    """Silence after which a run counts as crashed, unless its project says otherwise."""
    stall_timeout_s: float = 600.0
    """Time without a new step after which a run that beats is flagged as stalled, unless its project says otherwise; 0: never."""
    straggler_steps: int = 100
    """Steps behind the median after which a writer counts as a straggler, unless its project says otherwise; never less than
    the steps that the run makes within two beats, for beats do not come at one moment."""
    beat_interval_min_s: float = 2.0
    """How often agents are asked to beat while there are few runs: an order to stop comes with the answer."""
    beat_interval_max_s: float = 10.0
    """How often agents are asked to beat while there are many; at a quarter of a run's timeout in any case."""
    beats_per_s: int = 300
    """Beats a second up to which the shortest pause holds; beyond, pauses grow."""
    sweep_interval_s: float = 1.0
    """How often to look for silent runs, for stops, and at other replicas."""
    refresh_interval_s: float = 15.0
    """How often all live runs are read from metadata."""
    record_interval_s: float = 30.0
    """How often metadata is told of the last beats, all runs in one call."""
    stall_limit_s: float = 5.0
    """Gap in the monitor's own sweeps after which it counts as having been away itself; all runs then get a full timeout. Also
    for how long silence can be trusted without news of metadata and of every other replica."""
    call_timeout_s: float = 10.0
    """Longest wait for metadata."""
    lookup_timeout_s: float = 2.0
    """How long a heartbeat waits for metadata, or for another replica; what is open then is asked at the next beat."""
    call_concurrency_max: int = 32
    """Calls to metadata in flight, for verdicts and for lookups each."""
    not_live_memory_s: float = 15.0
    """How long it is remembered that a run is not live, or not known, before metadata is asked again."""
    not_live_count_max: int = 100_000
    """How many such runs are remembered."""
    address: str = ""
    """Where other replicas of the monitor reach this one, HOST:PORT. Empty: the process's own gRPC listener."""
    lease_s: float = 15.0
    """How long a replica that was killed keeps its runs; then the others take them over, each with a full timeout."""
    renew_interval_s: float = 3.0
    """How often a replica renews its lease, and learns of the others."""
    gather_s: float = 0.02
    """How long beats of other replicas' runs are gathered before they are passed on."""
    note_count_max: int = 1_000_000
    """Beats kept for each other replica that does not answer."""

    def __post_init__(self) -> None:
        if self.crash_timeout_s < BEATS_PER_TIMEOUT * BEAT_INTERVAL_FLOOR_S:
            raise ValueError(
                f"crash_timeout ({self.crash_timeout_s:g} s) must be at least "
                f"{BEATS_PER_TIMEOUT * BEAT_INTERVAL_FLOOR_S:g} s, or one lost beat makes a crash"
            )
        if not BEAT_INTERVAL_FLOOR_S <= self.beat_interval_min_s <= self.beat_interval_max_s:
            raise ValueError(
                f"beat_interval_min ({self.beat_interval_min_s:g} s) must be at least {BEAT_INTERVAL_FLOOR_S:g} s and at "
                f"most beat_interval_max ({self.beat_interval_max_s:g} s)"
            )
        if self.stall_limit_s < 2 * self.sweep_interval_s:
            raise ValueError(
                f"stall_limit ({self.stall_limit_s:g} s) must be at least twice sweep_interval "
                f"({self.sweep_interval_s:g} s), or the monitor takes its own pace for a stall"
            )
        if not self.renew_interval_s < self.stall_limit_s < self.lease_s:
            raise ValueError(
                f"renew_interval ({self.renew_interval_s:g} s), stall_limit ({self.stall_limit_s:g} s) and lease "
                f"({self.lease_s:g} s) must grow in this order, or a replica holds up verdicts though all is well"
            )
        if self.beats_per_s < 1 or self.straggler_steps < 1:
            raise ValueError("beats_per_s and straggler_steps must be at least 1")


def roster_rules(config: MonitorConfig) -> RosterRules:
    """Returns the settings as the list of replicas needs them."""
    return RosterRules(
        lease_s=config.lease_s,
        fresh_s=config.stall_limit_s,
        stall_limit_s=config.stall_limit_s,
        settle_s=1.5 * config.beat_interval_max_s,
    )
