"""Beats of runs that the monitor does not know: asks metadata who they are, and brings crashed ones back to life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from runyard_server.domain.beats import Beat
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, FailedPrecondition, NotFound
from runyard_server.domain.run import (
    LIVE_STATES,
    LiveRun,
    RunDocument,
    RunKey,
    RunState,
    TransitionCause,
)
from runyard_server.monitor.liveness import LivenessTable
from runyard_server.monitor.ports import ACTOR, RunDirectory

RETURN_AGE_MAX_S = 5.0
"""A beat that another replica kept for longer tells of the time before the verdict, not of now."""
EVENT_RUN_RETURNED = "run_returned"

LOOKUPS = Counter(
    "runyard_monitor_lookups_total",
    "Beats of runs not known here, by what metadata said.",
    ["result"],
)

log = logging.getLogger("runyard.monitor")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of beats of runs that were not known here."""

    unknown: list[RunKey]
    """Runs that metadata does not know."""
    moved: list[Beat]
    """Beats of runs that came to be another replica's meanwhile."""
    is_whole: bool
    """Whether every run is answered for; what is open is asked at the next beat."""


class Lookups:
    """Answers for runs that are not in the table; remembers for a while those that are not live."""

    def __init__(
        self,
        table: LivenessTable,
        *,
        directory: RunDirectory,
        clock: Clock,
        table_s: Callable[[], float],
        is_own: Callable[[RunKey], bool],
        concurrency_max: int,
        memory_s: float,
        memory_count_max: int,
    ) -> None:
        self._table = table
        self._directory = directory
        self._clock = clock
        self._table_s = table_s
        self._is_own = is_own
        self._slots = asyncio.Semaphore(concurrency_max)
        self._memory_s = memory_s
        self._memory_count_max = memory_count_max
        # Run key → (whether metadata knows it, until when that is believed).
        self._not_live: dict[RunKey, tuple[bool, float]] = {}

    async def resolve(self, beats: Sequence[Beat], *, agent_id: str, timeout_s: float) -> Resolved:
        """Returns which of the runs metadata does not know (deleted ones too); takes in those that are live.

        What cannot be answered in time is left for the next beat.
        """
        by_run = {beat.run_key: beat for beat in beats}
        wanted = [beat for key, beat in by_run.items() if self._remembered(key) is None]
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as lookups:
                for beat in wanted:
                    lookups.create_task(self._look_up(beat, agent_id))
        except TimeoutError:
            LOOKUPS.labels("timeout").inc()
        self._table.note_beats(
            beats, agent_id=agent_id, now_s=self._table_s(), now_unix_ns=self._clock.now_unix_ns()
        )
        return Resolved(
            moved=[
                beat
                for beat in beats
                if beat.run_key not in self._table and not self._is_own(beat.run_key)
            ],
            unknown=[key for key in by_run if self._remembered(key) is False],
            is_whole=all(key in self._table or self._remembered(key) is not None for key in by_run),
        )

    async def _look_up(self, beat: Beat, agent_id: str) -> None:
        async with self._slots:
            try:
                document = await self._directory.get_run(run_key=beat.run_key)
                is_live = await self._take_in(document, beat, agent_id)
            except NotFound:
                self._remember(beat.run_key, is_known=False, result="unknown")
            except FailedPrecondition:
                self._remember(beat.run_key, is_known=False, result="deleted")
            except DomainError as error:
                LOOKUPS.labels(error.reason.lower()).inc()
            else:
                if is_live:
                    LOOKUPS.labels("live").inc()
                else:
                    self._remember(beat.run_key, is_known=True, result="ended")

    async def _take_in(self, document: RunDocument, beat: Beat, agent_id: str) -> bool:
        """Returns whether the run is live now; a crashed one whose process lives is brought back."""
        state = document.state
        if state is RunState.CRASHED and beat.is_process_alive and beat.age_s <= RETURN_AGE_MAX_S:
            is_applied, state = await self._directory.record_transition(
                document.run_key,
                from_state=RunState.CRASHED,
                to_state=RunState.RUNNING,
                cause=TransitionCause.HEARTBEAT_RETURNED,
                evidence=f"agent {beat.agent_id or agent_id} says that the process of writer {beat.writer} lives",
                actor=ACTOR,
                attempt_count=document.attempt_count,
                end_time_unix_ns=None,
            )
            if is_applied:
                log.info(EVENT_RUN_RETURNED, extra={"fields": {"run": document.path}})
        if state not in LIVE_STATES:
            return False
        run = LiveRun(
            run_key=document.run_key,
            path=document.path,
            state=state,
            attempt_count=document.attempt_count,
            stalled_since_unix_ns=document.stalled_since_unix_ns,
        )
        if not self._is_own(document.run_key):
            return True
        # A run's document does not hold the settings of its project; the next refresh brings them.
        self._table.learn(
            run,
            now_s=self._table_s(),
            now_unix_ns=self._clock.now_unix_ns(),
            is_provisional=True,
        )
        return True

    def _remembered(self, run_key: RunKey) -> bool | None:
        """Returns whether metadata knows the run that is not live, or None if nothing is remembered."""
        found = self._not_live.get(run_key)
        if found is None or run_key in self._table:
            return None
        is_known, until_s = found
        return is_known if self._clock.monotonic_s() < until_s else None

    def _remember(self, run_key: RunKey, *, is_known: bool, result: str) -> None:
        LOOKUPS.labels(result).inc()
        while len(self._not_live) >= self._memory_count_max:
            del self._not_live[next(iter(self._not_live))]
        self._not_live.pop(run_key, None)
        self._not_live[run_key] = (is_known, self._clock.monotonic_s() + self._memory_s)
