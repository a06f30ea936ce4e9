"""Looks at the table at intervals: learns which runs live, and has verdicts recorded until metadata has taken them."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import Counter, Gauge

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, FailedPrecondition, NotFound
from runyard_server.domain.run import LIVE_STATES, RunState, TransitionCause
from runyard_server.monitor.liveness import LivenessTable, Verdict
from runyard_server.monitor.lookups import ACTOR, RunDirectory

EVENT_METADATA_AWAY = "metadata_away"
EVENT_METADATA_BACK = "metadata_back"
EVENT_MONITOR_STALLED = "monitor_stalled"
EVENT_RUN_CRASHED = "run_crashed"

LIVE_RUNS = Gauge("runyard_monitor_live_runs", "Runs that the monitor watches.")
VERDICTS = Counter("runyard_monitor_verdicts_total", "Verdicts, by what metadata said.", ["result"])
REFRESHES = Counter(
    "runyard_monitor_refreshes_total", "Times that all live runs were read, by result.", ["result"]
)
STALLS = Counter("runyard_monitor_stalls_total", "Times that the monitor itself had been away.")

HEARTBEATS_PER_CALL = 10_000

log = logging.getLogger("runyard.monitor")


class Sweeper:
    """Keeps the table in step with metadata, both ways."""

    def __init__(
        self,
        table: LivenessTable,
        *,
        directory: RunDirectory,
        clock: Clock,
        concurrency_max: int,
        call_timeout_s: float,
    ) -> None:
        self._table = table
        self._directory = directory
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency_max)
        self._call_timeout_s = call_timeout_s
        self._is_away = False
        self.is_stopping = False
        """Set when this process is about to stop: that metadata goes too is no news then."""
        self._recorded_until_unix_ns = 0

    async def run(
        self, *, sweep_interval_s: float, refresh_interval_s: float, record_interval_s: float
    ) -> None:
        """Refreshes, sweeps and records beats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_refreshing(refresh_interval_s, sweep_interval_s))
            tasks.create_task(self._keep_sweeping(sweep_interval_s))
            tasks.create_task(self._keep_looking(sweep_interval_s))
            tasks.create_task(self._keep_recording(record_interval_s))

    async def refresh(self) -> bool:
        """Reads all live runs from metadata; returns False, and forgets nothing, if it does not answer."""
        asked_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._call_timeout_s):
                live_runs = await self._directory.list_live_runs()
        except (DomainError, TimeoutError) as error:
            REFRESHES.labels("failed").inc()
            self._note_away(str(error) or "no answer in time")
            return False
        self._table.reconcile(live_runs, asked_s=asked_s, now_s=self._clock.monotonic_s())
        REFRESHES.labels("ok").inc()
        LIVE_RUNS.set(len(self._table))
        self._note_back()
        return True

    async def sweep(self) -> None:
        """Has a verdict recorded on each run that is due. What fails stays due, and comes up in the next sweep."""
        verdicts = self._table.sweep(now_s=self._clock.monotonic_s())
        async with asyncio.TaskGroup() as recordings:
            for verdict in verdicts:
                recordings.create_task(self._record(verdict))
        LIVE_RUNS.set(len(self._table))

    async def record_beats(self) -> None:
        """Has metadata note the beats since the last time, for the day when no monitor remembers them.

        What fails is made up for by the next round: only the last beat counts.
        """
        beats = self._table.beats_since(self._recorded_until_unix_ns)
        until_unix_ns = self._clock.now_unix_ns()
        try:
            for first in range(0, len(beats), HEARTBEATS_PER_CALL):
                async with asyncio.timeout(self._call_timeout_s):
                    await self._directory.record_heartbeats(
                        beats[first : first + HEARTBEATS_PER_CALL]
                    )
        except (DomainError, TimeoutError) as error:
            self._note_away(str(error) or "no answer in time")
            return
        self._recorded_until_unix_ns = until_unix_ns

    async def _keep_recording(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self.record_beats()

    async def _keep_refreshing(self, interval_s: float, retry_interval_s: float) -> None:
        while True:
            is_done = await self.refresh()
            await asyncio.sleep(interval_s if is_done else retry_interval_s)

    async def _keep_sweeping(self, interval_s: float) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(interval_s)

    async def _keep_looking(self, interval_s: float) -> None:
        """Shows the table that the monitor is awake, also while a sweep waits for metadata."""
        while True:
            if not self._table.look(self._clock.monotonic_s()):
                STALLS.inc()
                fields = {"live_runs": len(self._table)}
                log.warning(EVENT_MONITOR_STALLED, extra={"fields": fields})
            await asyncio.sleep(interval_s)

    async def _record(self, verdict: Verdict) -> None:
        run = verdict.run
        async with self._slots:
            # A beat may have come while this verdict waited for its turn.
            if not self._table.is_due(run.run_key, now_s=self._clock.monotonic_s()):
                VERDICTS.labels("withdrawn").inc()
                return
            try:
                async with asyncio.timeout(self._call_timeout_s):
                    is_applied, state = await self._directory.record_transition(
                        run.run_key,
                        from_state=run.state,
                        to_state=RunState.CRASHED,
                        cause=TransitionCause.HEARTBEAT_LOST,
                        evidence=verdict.evidence,
                        actor=ACTOR,
                        attempt_count=run.attempt_count,
                        end_time_unix_ns=verdict.last_beat_unix_ns,
                    )
            except (NotFound, FailedPrecondition):
                VERDICTS.labels("run_gone").inc()
                self._table.forget(run.run_key)
                return
            except (DomainError, TimeoutError) as error:
                VERDICTS.labels("failed").inc()
                self._note_away(str(error) or "no answer in time")
                return
        self._settle(verdict, is_applied=is_applied, state=state)

    def _settle(self, verdict: Verdict, *, is_applied: bool, state: RunState) -> None:
        """Forgets the run; if it lives on by metadata's word (a new attempt, stopping), the next refresh learns it anew."""
        run = verdict.run
        self._table.forget(run.run_key)
        self._note_back()
        if is_applied:
            VERDICTS.labels("recorded").inc()
            fields = {"run": run.path, "state": state.value, "evidence": verdict.evidence}
            log.info(EVENT_RUN_CRASHED, extra={"fields": fields})
        else:
            VERDICTS.labels("still_live" if state in LIVE_STATES else "ended_before").inc()

    def _note_away(self, message: str) -> None:
        if not self._is_away:
            level = logging.DEBUG if self.is_stopping else logging.WARNING
            log.log(level, EVENT_METADATA_AWAY, extra={"fields": {"message": message}})
        self._is_away = True

    def _note_back(self) -> None:
        if self._is_away:
            log.info(EVENT_METADATA_BACK)
        self._is_away = False
