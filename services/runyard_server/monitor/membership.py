"""Keeps this replica in the list of the living, and with it the time by which signs of life and verdicts count."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge

from runyard_server.domain.beats import Beat, MonitorReplica
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey
from runyard_server.monitor.liveness import LivenessTable
from runyard_server.monitor.ports import RunDirectory
from runyard_server.monitor.replicas import Roster

EVENT_MONITOR_STALLED = "monitor_stalled"
EVENT_REPLICAS_CHANGED = "monitor_replicas_changed"
EVENT_REPLICA_LAPSED = "monitor_replica_lapsed"

REPLICAS = Gauge("runyard_monitor_replicas", "Living replicas of the monitor, this one among them.")
RENEWALS = Counter(
    "runyard_monitor_renewals_total", "Renewals of this replica's lease, by result.", ["result"]
)
STALLS = Counter("runyard_monitor_stalls_total", "Times that the monitor itself had been away.")
DEAF_SECONDS = Gauge(
    "runyard_monitor_deaf_seconds",
    "How far verdicts are held back because metadata or another replica of the monitor is not heard.",
)

log = logging.getLogger("runyard.monitor")


class Membership:
    """Renews the lease, and gives runs up that are another replica's by the list that came back."""

    def __init__(
        self,
        roster: Roster,
        table: LivenessTable,
        *,
        directory: RunDirectory,
        clock: Clock,
        address: str,
        lease_s: float,
        call_timeout_s: float,
        hand_over: Callable[[Sequence[Beat]], None],
    ) -> None:
        self._roster = roster
        self._table = table
        self._directory = directory
        self._clock = clock
        self._address = address
        self._lease_s = lease_s
        self._call_timeout_s = call_timeout_s
        self._hand_over = hand_over
        self._is_away = False
        self._is_leaving = False
        self._first = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set when runs may have another owner than before."""
        self.gone: list[MonitorReplica] = []
        """Replicas that went off the list; whoever speaks to them takes them from here."""

    def table_s(self) -> float:
        """Returns the time by which signs of life are noted."""
        return self._roster.table_s(self._clock.monotonic_s())

    def verdict_s(self) -> float:
        """Returns the time as of which verdicts may be given."""
        return self._roster.verdict_s(self._clock.monotonic_s())

    def look(self) -> None:
        """Shows that the process is awake; after an absence all runs get a full timeout."""
        now_s = self._clock.monotonic_s()
        DEAF_SECONDS.set(max(0.0, now_s - self._roster.heard_until_s(now_s)))
        is_awake = self._roster.look(now_s)
        self._step_back()
        if is_awake:
            return
        self._table.excuse_all(self.table_s())
        STALLS.inc()
        fields = {"live_runs": len(self._table)}
        log.warning(EVENT_MONITOR_STALLED, extra={"fields": fields})

    async def renew(self) -> bool:
        """Renews the lease and takes in the list; returns False if metadata does not answer, or this replica is leaving."""
        if self._is_leaving:
            return False
        asked_s = self._clock.monotonic_s()
        try:
            replicas = await self._call(is_leaving=False)
        except (DomainError, TimeoutError) as error:
            RENEWALS.labels("failed").inc()
            self._note_away(str(error) or "no answer in time")
            return False
        RENEWALS.labels("ok").inc()
        self._is_away = False
        before = self._roster.peers
        now_s = self._clock.monotonic_s()
        change = self._roster.renew(replicas, asked_s=asked_s, now_s=now_s)
        self._step_back()
        if change.is_excusing:
            self._table.excuse_all(self._roster.table_s(now_s))
        if change.is_changed:
            self._give_up_runs(now_s)
            self.gone.extend(peer for peer in before if peer not in self._roster.peers)
            REPLICAS.set(1 + len(self._roster.peers))
            fields = {
                "replica": self._roster.replica_id,
                "others": ", ".join(f"{p.replica_id} at {p.address}" for p in self._roster.peers),
            }
            log.info(EVENT_REPLICAS_CHANGED, extra={"fields": fields})
            self.changed.set()
        return True

    async def make_known(self, *, wait_s: float) -> bool:
        """Returns whether the list is known; asks for it, once for all who wait, if it is not."""
        if not self._roster.is_known:
            try:
                async with asyncio.timeout(wait_s), self._first:
                    if not self._roster.is_known:
                        await self.renew()
            except TimeoutError:
                pass  # known or not, as below
        return self._roster.is_known

    async def leave(self) -> None:
        """Goes off the list, so that the others need not wait for the end of the lease; best effort."""
        self._is_leaving = True
        try:
            await self._call(is_leaving=True)
        except (DomainError, TimeoutError) as error:
            RENEWALS.labels("failed").inc()
            log.debug("%s %s", EVENT_REPLICA_LAPSED, error)

    async def keep_renewing(self, interval_s: float, retry_interval_s: float) -> None:
        """Renews until cancelled."""
        while True:
            is_done = await self.renew()
            await asyncio.sleep(interval_s if is_done else retry_interval_s)

    async def keep_looking(self, interval_s: float) -> None:
        """Looks at the clock until cancelled, also while a sweep waits for metadata."""
        while True:
            self.look()
            await asyncio.sleep(interval_s)

    async def _call(self, *, is_leaving: bool) -> tuple[MonitorReplica, ...]:
        async with asyncio.timeout(self._call_timeout_s):
            return await self._directory.renew_monitor_replica(
                self._roster.replica_id,
                address=self._address,
                lease_s=self._lease_s,
                is_leaving=is_leaving,
            )

    def _step_back(self) -> None:
        if self._roster.take_step_back():
            self._table.step_back(self.table_s())

    def give_up(self, run_key: RunKey) -> None:
        """Forgets a run that is another replica's now, and hands its last beats over."""
        beats = self._table.give_up(run_key)
        # From the table's time to that of the process.
        later_s = self._clock.monotonic_s() - self.table_s()
        self._hand_over([beat._replace(age_s=beat.age_s + later_s) for beat in beats])

    def _give_up_runs(self, now_s: float) -> None:
        run_keys = list(self._table.run_keys)
        owned = self._roster.owned(run_keys, now_s=now_s)
        for run_key, is_own in zip(run_keys, owned, strict=True):
            if not is_own:
                self.give_up(run_key)

    def _note_away(self, message: str) -> None:
        is_lapsed = self._roster.is_lapsed(self._clock.monotonic_s())
        if is_lapsed and not self._is_away and self._roster.peers:
            log.warning(EVENT_REPLICA_LAPSED, extra={"fields": {"message": message}})
            self._is_away = True
