"""Sends the pieces of a journal as batches, several at once, and moves the mark over what is durable without a gap."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, Callable

from runyard import journal_format as form
from runyard.agent.budget import Budget
from runyard.agent.columns import Piece
from runyard.agent.mark import Mark, outside
from runyard.agent.ports import Batch, Change, StartedRun, SummaryChange, Transport
from runyard.agent.retry import Repeater
from runyard.errors import Error, PermissionDenied, Unauthenticated

IN_FLIGHT_COUNT_MAX = 8
"""Batches of one run in flight."""
CHANGE_COUNT_MAX = 1000
"""Changes in one call."""
REFUSAL_COUNT_MAX = 64
"""Refusals while a refused piece is cut in halves; then what is left of it is set aside whole."""
RUN_REASONS = ("RUN_DELETED", "RUN_NOT_FOUND", "REQUEST_ID_REUSED", "TRANSITION_NOT_ALLOWED")
_CHANGE_FIELDS = (
    "config_set", "config_removed", "metric_definition", "display_name", "notes", "tags", "alert", "preemption_notice",
    "host_facts",
)  # fmt: skip

_log = logging.getLogger("runyard.agent")


class AckWindow:
    """Knows up to which sequence every record is settled: durable, or set aside and told."""

    def __init__(self, durable_sequence: int) -> None:
        self.durable_sequence = durable_sequence
        self._last_by_first: dict[int, int] = {}

    def settle(self, first: int, last: int) -> bool:
        """Takes a settled range, in any order; returns whether `durable_sequence` moved."""
        if last <= self.durable_sequence:
            return False
        self._last_by_first[max(first, self.durable_sequence + 1)] = last
        before = self.durable_sequence
        while self.durable_sequence + 1 in self._last_by_first:
            self.durable_sequence = self._last_by_first.pop(self.durable_sequence + 1)
        return self.durable_sequence > before


class Uploader:
    """Uploads one writer's records. `refusal` is set when the server refuses the whole run."""

    def __init__(
        self,
        transport: Transport,
        repeater: Repeater,
        run: StartedRun,
        mark: Mark,
        *,
        budget: Budget,
        journal: str = form.RUN_JOURNAL,
        on_change: Callable[[], Any] = lambda: None,
    ) -> None:
        self.refusal: Error | None = None
        self.bytes_settled = 0
        """Bytes of the journal that were settled."""
        self._transport = transport
        self._repeater = repeater
        self._run = run
        self._mark = mark
        self._budget = budget
        self._journal = journal
        self._on_change = on_change
        self._window = AckWindow(mark.durable_sequence)
        self._submitted_sequence = mark.durable_sequence
        self._slots = asyncio.Semaphore(IN_FLIGHT_COUNT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes_before: asyncio.Task[None] | None = None

    async def submit(self, piece: Piece) -> None:
        """Takes a piece, in order of sequence; returns when there is room for a further one."""
        await self._slots.acquire()
        try:
            await self._budget.take(piece.size_bytes)
        except BaseException:
            self._slots.release()
            raise
        loop = asyncio.get_running_loop()
        changes, summary_changes = changes_of(piece)
        applying: asyncio.Task[None] | None = None
        if changes:
            applying = loop.create_task(self._apply(changes, self._changes_before))
            self._changes_before = applying
        self._submitted_sequence = max(self._submitted_sequence, piece.last_sequence)
        task = loop.create_task(self._send(piece, summary_changes, applying))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def set_aside(self, first: int, last: int, message: str) -> None:
        """Settles a range that cannot be sent; with a message it counts as refused, without one as durable."""
        self._submitted_sequence = max(self._submitted_sequence, last)
        if message:
            self._mark.refuse(first, last, message)
        self._settle(first, last)

    async def drain(self) -> None:
        """Returns when every piece is settled, or the run refused.

        Raises RuntimeError if a piece got lost on the way, which is a bug: nothing may end the run then.
        """
        while self._tasks and self.refusal is None:
            await asyncio.wait(list(self._tasks), return_when=asyncio.FIRST_COMPLETED)
        settled = self._window.durable_sequence
        if self.refusal is None and settled < self._submitted_sequence:
            raise RuntimeError(
                f"records {settled + 1} to {self._submitted_sequence} were given up without an answer"
            )

    async def stop(self) -> None:
        """Ends all that is in flight; what got no answer is not durable."""
        tasks = [*self._tasks, *([self._changes_before] if self._changes_before else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(
        self,
        piece: Piece,
        summary_changes: Sequence[SummaryChange],
        applying: asyncio.Task[None] | None,
    ) -> None:
        try:
            if applying is not None:  # first, so that what it refuses is not in the batch
                await applying
            refusals = _Refusals()
            for part in self._acceptable(piece):
                await self._write(part, _within(summary_changes, part), refusals)
            self.bytes_settled += piece.size_bytes
            self._settle(piece.first_sequence, piece.last_sequence)
        except Error as error:
            self.refusal = self.refusal or error
            self._on_change()
        finally:
            self._slots.release()
            self._budget.give(piece.size_bytes)

    def _acceptable(self, piece: Piece) -> list[Piece]:
        """Returns the piece without the records that were refused: the server's receipt shows those as gaps."""
        first, last = piece.first_sequence, piece.last_sequence
        parts = outside(self._mark.refused_ranges, first, last)
        return [piece] if parts == [(first, last)] else [piece.within(*part) for part in parts]

    async def _write(
        self, piece: Piece, summary_changes: Sequence[SummaryChange], refusals: _Refusals
    ) -> None:
        """Returns when each record of the piece is durable or set aside. Raises what refuses the whole run."""
        batch = Batch(
            self._run.run_key,
            self._run.writer,
            piece.first_sequence,
            piece.last_sequence,
            piece.tables,
            summary_changes,
            [event for event in piece.events if event.kind == form.CONSOLE],
            self._journal,
            [event for event in piece.events if event.kind == form.MEDIA],
        )
        try:
            rejections = await self._repeater.call(lambda: self._transport.write_batch(batch))
        except Error as error:
            if refuses_run(error):
                raise
            refusals.count += 1
            if piece.record_count == 1 or refusals.count > REFUSAL_COUNT_MAX:
                self._mark.refuse(piece.first_sequence, piece.last_sequence, error.message)
                return
            for half in piece.halves():
                await self._write(half, _within(summary_changes, half), refusals)
        else:
            if rejections:
                self._mark.reject(rejections)

    async def _apply(self, changes: Sequence[Change], before: asyncio.Task[None] | None) -> None:
        """Applies changes after all earlier ones: the server passes over what is older than the newest it has."""
        if before is not None:
            await before
        for start in range(0, len(changes), CHANGE_COUNT_MAX):
            await self._apply_some(changes[start : start + CHANGE_COUNT_MAX])

    async def _apply_some(self, changes: Sequence[Change]) -> None:
        run = self._run
        try:
            await self._repeater.call(
                lambda: self._transport.apply_changes(run.run_key, run.writer, changes)
            )
        except Error as error:
            if refuses_run(error):
                raise
            if len(changes) == 1:
                self._mark.refuse(changes[0].sequence, changes[0].sequence, error.message)
                return
            for change in changes:
                await self._apply_some([change])

    def _settle(self, first: int, last: int) -> None:
        if self._window.settle(first, last):
            self._mark.advance(self._window.durable_sequence)
            self._on_change()


def _within(changes: Sequence[SummaryChange], piece: Piece) -> list[SummaryChange]:
    return [c for c in changes if piece.first_sequence <= c.sequence <= piece.last_sequence]


class _Refusals:
    """Counts what was refused of one piece."""

    def __init__(self) -> None:
        self.count = 0


def refuses_run(error: Error) -> bool:
    """Returns whether the refusal is of the whole run, not of what was sent."""
    return error.reason in RUN_REASONS or isinstance(error, (Unauthenticated, PermissionDenied))


def changes_of(piece: Piece) -> tuple[list[Change], list[SummaryChange]]:
    """Returns the piece's changes: those of the run's document, and those of its summary."""
    changes, summary_changes = [], []
    for sequence, kind, payload in piece.events:
        if kind != form.CHANGE:
            continue
        content = json.loads(payload)
        if any(name in content for name in _CHANGE_FIELDS):
            changes.append(Change(sequence, content))
        for key in content.get("summary_removed") or ():
            summary_changes.append(SummaryChange(sequence, key, ""))
        for key, value in (content.get("summary_set") or {}).items():
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            summary_changes.append(SummaryChange(sequence, key, text))
    return changes, summary_changes
