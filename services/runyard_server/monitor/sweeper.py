"""Looks at the table at intervals: learns which runs live, and has verdicts and events recorded until metadata has taken them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from prometheus_client import Counter, Gauge

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.run import LIVE_STATES, LiveRun, RunState, TransitionCause
from runyard_server.monitor.liveness import LivenessTable, Notice, Suspects, Verdict
from runyard_server.monitor.membership import Membership
from runyard_server.monitor.ports import ACTOR, RunDirectory
from runyard_server.monitor.replicas import Roster

EVENT_EVENT_REFUSED = "monitor_event_refused"
EVENT_METADATA_AWAY = "metadata_away"
EVENT_METADATA_BACK = "metadata_back"
EVENT_RUN_CRASHED = "run_crashed"
EVENT_RUN_STALLED = "run_stalled"

LIVE_RUNS = Gauge("runyard_monitor_live_runs", "Runs that the monitor watches.")
VERDICTS = Counter("runyard_monitor_verdicts_total", "Verdicts, by what metadata said.", ["result"])
EVENTS = Counter(
    "runyard_monitor_events_total",
    "Events seen, by kind and what metadata said.",
    ["kind", "result"],
)
REFRESHES = Counter(
    "runyard_monitor_refreshes_total", "Times that all live runs were read, by result.", ["result"]
)

HEARTBEATS_PER_CALL: Final = 10_000
SLICE: Final = 5_000
"""Runs that are taken in before others of this process get their turn."""
NOTICES_MAX: Final = 100_000

log = logging.getLogger("runyard.monitor")
T = TypeVar("T")


class Sweeper:
    """Keeps the table in step with metadata, both ways."""

    def __init__(
        self,
        table: LivenessTable,
        *,
        roster: Roster,
        membership: Membership,
        directory: RunDirectory,
        clock: Clock,
        concurrency_max: int,
        call_timeout_s: float,
    ) -> None:
        self._table = table
        self._roster = roster
        self._membership = membership
        self._directory = directory
        self._clock = clock
        self._concurrency_max = concurrency_max
        self._call_timeout_s = call_timeout_s
        self._is_away = False
        self.is_stopping = False
        """Set when this process is about to stop: that metadata goes too is no news then."""
        self._recorded_until_s = float("-inf")
        self._notices: deque[Notice] = deque(maxlen=NOTICES_MAX)

    async def run(
        self, *, sweep_interval_s: float, refresh_interval_s: float, record_interval_s: float
    ) -> None:
        """Refreshes, sweeps and records beats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_refreshing(refresh_interval_s, sweep_interval_s))
            tasks.create_task(self._keep_sweeping(sweep_interval_s))
            tasks.create_task(self._keep_recording(record_interval_s))

    async def refresh(self) -> bool:
        """Reads all live runs from metadata; returns False, and forgets nothing, if it does not answer."""
        if not self._roster.is_known:
            return False
        generation = self._table.begin_refresh()
        try:
            async with asyncio.timeout(self._call_timeout_s):
                live_runs = await self._directory.list_live_runs()
        except (DomainError, TimeoutError) as error:
            REFRESHES.labels("failed").inc()
            self._note_away(str(error) or "no answer in time")
            return False
        await self._reconcile(live_runs, generation)
        REFRESHES.labels("ok").inc()
        LIVE_RUNS.set(len(self._table))
        self._note_back()
        return True

    async def sweep(self) -> None:
        """Has a verdict recorded on each run that is due, and what else was seen. What fails comes up in the next sweep."""
        if not self._roster.is_known:
            return
        found = self._table.sweep(now_s=self._membership.verdict_s())
        await self._each(found.verdicts, self._record)
        await self._each(found.suspects, self._ask_about)
        self._notices.extend(self._table.take_notices())
        notices, self._notices = list(self._notices), deque(maxlen=NOTICES_MAX)
        # One run's events one after the other, in their order.
        by_run: dict[int, list[Notice]] = {}
        for notice in notices:
            by_run.setdefault(notice.run.run_key, []).append(notice)
        await self._each(list(by_run.values()), self._record_notices)
        LIVE_RUNS.set(len(self._table))

    async def record_beats(self) -> None:
        """Has metadata note the beats since the last time, for the day when no monitor remembers them.

        What fails is made up for by the next round: only the last beat counts.
        """
        until_s = self._membership.table_s()
        beats = self._table.beats_since(min(self._recorded_until_s, until_s))
        try:
            for first in range(0, len(beats), HEARTBEATS_PER_CALL):
                async with asyncio.timeout(self._call_timeout_s):
                    await self._directory.record_heartbeats(
                        beats[first : first + HEARTBEATS_PER_CALL]
                    )
        except (DomainError, TimeoutError) as error:
            self._note_away(str(error) or "no answer in time")
            return
        self._recorded_until_s = until_s

    async def _keep_recording(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self.record_beats()

    async def _keep_refreshing(self, interval_s: float, retry_interval_s: float) -> None:
        changed = self._membership.changed
        while True:
            changed.clear()
            is_done = await self.refresh()
            try:
                async with asyncio.timeout(interval_s if is_done else retry_interval_s):
                    await changed.wait()
            except TimeoutError:
                pass  # time for the next one

    async def _keep_sweeping(self, interval_s: float) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(interval_s)

    async def _reconcile(self, live_runs: Sequence[LiveRun], generation: int) -> None:
        """Takes in those of the runs that are this replica's, in slices, and forgets what is not live."""
        known = {run.run_key for run in live_runs}
        for first in range(0, len(live_runs), SLICE):
            some = live_runs[first : first + SLICE]
            # Asked anew for each slice: the list of replicas may change between two.
            owned = self._roster.owned(
                [run.run_key for run in some], now_s=self._clock.monotonic_s()
            )
            now_s, now_unix_ns = self._membership.table_s(), self._clock.now_unix_ns()
            for run, is_own in zip(some, owned, strict=True):
                if is_own:
                    self._table.learn(run, now_s=now_s, now_unix_ns=now_unix_ns)
                elif run.run_key in self._table:
                    self._membership.give_up(run.run_key)
            await asyncio.sleep(0)
        self._table.retain(known.__contains__, before_generation=generation)

    async def _each(self, items: Sequence[T], work: Callable[[T], Awaitable[bool]]) -> None:
        """Does the work for each, some at once; the first for which metadata does not answer ends the round."""
        waiting = iter(items)
        is_away = False

        async def take_turns() -> None:
            nonlocal is_away
            for item in waiting:
                if is_away or not await work(item):
                    is_away = True
                    self._put_back(item)

        async with asyncio.TaskGroup() as turns:
            for _ in range(min(self._concurrency_max, len(items))):
                turns.create_task(take_turns())

    def _put_back(self, item: object) -> None:
        """Keeps events for the next round; verdicts and suspects come up again by themselves."""
        if isinstance(item, list):
            self._notices.extend(item)

    async def _record(self, verdict: Verdict) -> bool:
        """Returns False if metadata did not answer."""
        run = verdict.run
        # A beat may have come while this verdict waited for its turn.
        if not self._table.is_due(run.run_key, now_s=self._membership.verdict_s()):
            VERDICTS.labels("withdrawn").inc()
            return True
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
            return True
        except (DomainError, TimeoutError) as error:
            VERDICTS.labels("failed").inc()
            self._note_away(str(error) or "no answer in time")
            return False
        self._settle(verdict, is_applied=is_applied, state=state)
        return True

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

    async def _ask_about(self, suspects: Suspects) -> bool:
        """Has metadata say which of the silent writers have ended; returns False if it does not answer."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                open_writers = await self._directory.list_open_writers(suspects.run.run_key)
        except (NotFound, FailedPrecondition):
            return True
        except (DomainError, TimeoutError) as error:
            self._note_away(str(error) or "no answer in time")
            return False
        self._table.settle_suspects(
            suspects,
            ended_writers=set(suspects.writers) - open_writers,
            now_s=self._membership.verdict_s(),
        )
        return True

    async def _record_notices(self, notices: list[Notice]) -> bool:
        """Records what was seen of one run; returns False if metadata did not answer, what is recorded taken out."""
        while notices:
            notice = notices[0]
            result = await self._record_notice(notice)
            EVENTS.labels(notice.kind.value, result).inc()
            if result == "failed":
                return False
            del notices[0]
        return True

    async def _record_notice(self, notice: Notice) -> str:
        try:
            async with asyncio.timeout(self._call_timeout_s):
                is_applied = await self._directory.record_run_event(
                    notice.run.run_key,
                    kind=notice.kind,
                    evidence=notice.evidence,
                    actor=ACTOR,
                    attempt_count=notice.run.attempt_count,
                    writer=notice.writer,
                    since_unix_ns=notice.since_unix_ns,
                )
        except (NotFound, FailedPrecondition):
            return "run_gone"
        except InvalidArgument as error:
            log.error(EVENT_EVENT_REFUSED, extra={"fields": {"message": error.message}})
            return "refused"
        except (DomainError, TimeoutError) as error:
            self._note_away(str(error) or "no answer in time")
            return "failed"
        if is_applied and notice.kind is RunEventKind.STALLED:
            fields = {"run": notice.run.path, "evidence": notice.evidence}
            log.info(EVENT_RUN_STALLED, extra={"fields": fields})
        return "recorded" if is_applied else "no_news"

    def _note_away(self, message: str) -> None:
        if not self._is_away:
            level = logging.DEBUG if self.is_stopping else logging.WARNING
            log.log(level, EVENT_METADATA_AWAY, extra={"fields": {"message": message}})
        self._is_away = True

    def _note_back(self) -> None:
        if self._is_away:
            log.info(EVENT_METADATA_BACK)
        self._is_away = False
