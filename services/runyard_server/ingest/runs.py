"""Knows which runs may be written to: asks metadata once per run and writer, and again from time to time."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from runyard_server.domain.run import RunDocument, RunKey
from runyard_server.ingest import counters

log = logging.getLogger("runyard.ingest")


class RunSource(Protocol):
    """Gives run documents; rpc.siblings.Siblings does."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns the run; raises NotFound, FailedPrecondition RUN_DELETED, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class RunCacheLimits:
    """How long an answer of metadata counts."""

    runs_max: int
    fresh_s: float
    """Age from which metadata is asked again: a deleted run is noticed within it."""
    stale_max_s: float
    """Age up to which an answer counts while metadata does not answer, so that its absence stops no run."""
    refusal_s: float
    """How long a refusal is repeated without asking."""
    lookup_timeout_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    writer_count: int
    refusal: DomainError | None
    asked_s: float
    fresh_until_s: float
    question: int = 0
    """Number of the question that it answers; tells what was asked before what, which a clock does not."""


class RunCache:
    """Checks that a batch's run exists, is not deleted, and has the writer."""

    def __init__(self, source: RunSource, limits: RunCacheLimits, *, clock: Clock) -> None:
        self._source = source
        self._limits = limits
        self._clock = clock
        self._answers: OrderedDict[RunKey, _Answer] = OrderedDict()
        self._lookups: dict[RunKey, asyncio.Task[_Answer]] = {}
        self._question = 0

    async def check(self, run_key: RunKey, writer: int) -> None:
        """Returns if the writer may write to the run.

        Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, InvalidArgument for a writer that StartRun did not
        number, Unavailable if metadata does not answer and nothing is known of the run.
        """
        asked_before = self._question
        answer = self._answers.get(run_key)
        if answer is None or self._clock.monotonic_s() >= answer.fresh_until_s:
            answer = await self._ask(run_key)
        # The writer may have joined since metadata was asked; a question that was shared may be older than this call too.
        for _ in range(2):
            is_old = answer.question <= asked_before
            if is_old and answer.refusal is None and writer > answer.writer_count:
                answer = await self._ask(run_key)
        if answer.refusal is not None:
            # A new exception each time: raised ones carry the traceback of whoever raised them.
            refusal = answer.refusal
            raise type(refusal)(refusal.reason, refusal.message, metadata=refusal.metadata)
        if writer > answer.writer_count:
            if answer.question <= asked_before:
                raise _unavailable()  # what is known is from before, and is no reason to refuse for good
            raise InvalidArgument(
                "FIELD_INVALID",
                f"writer is {writer}, but the run has {answer.writer_count}; call StartRun first",
                metadata={"field": "writer", "value": writer, "limit": answer.writer_count},
            )

    def forget(self, run_keys: Sequence[RunKey]) -> None:
        """Forgets what metadata said of the runs."""
        for run_key in run_keys:
            self._answers.pop(run_key, None)

    async def _ask(self, run_key: RunKey) -> _Answer:
        """Returns metadata's answer; those who ask for one run at once share one question."""
        lookup = self._lookups.get(run_key)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(run_key))
            self._lookups[run_key] = lookup
            lookup.add_done_callback(lambda done: self._forget(run_key, done))
        return await asyncio.shield(lookup)

    def _forget(self, run_key: RunKey, lookup: asyncio.Task[_Answer]) -> None:
        self._lookups.pop(run_key, None)
        if not lookup.cancelled():
            lookup.exception()  # seen: those who asked may all be gone

    async def _look_up(self, run_key: RunKey) -> _Answer:
        known = self._answers.get(run_key)
        now_s = self._clock.monotonic_s()
        limits = self._limits
        self._question += 1
        question = self._question
        try:
            async with asyncio.timeout(limits.lookup_timeout_s):
                document = await self._source.get_run(run_key=run_key)
            answer = _Answer(document.writer_count, None, now_s, now_s + limits.fresh_s, question)
            counters.RUN_LOOKUPS.labels("found").inc()
        except (NotFound, FailedPrecondition) as refusal:
            answer = _Answer(0, refusal, now_s, now_s + limits.refusal_s, question)
            counters.RUN_LOOKUPS.labels("refused").inc()
        except (Unavailable, DeadlineExceeded, TimeoutError) as error:
            counters.RUN_LOOKUPS.labels("unavailable").inc()
            if known is None or now_s - known.asked_s >= limits.stale_max_s:
                raise _unavailable() from error
            log.warning(counters.EVENT_RUN_UNCHECKED, extra={"fields": {"run_key": run_key}})
            answer = replace(known, fresh_until_s=now_s + limits.refusal_s)
        self._keep(run_key, answer)
        return answer

    def _keep(self, run_key: RunKey, answer: _Answer) -> None:
        self._answers[run_key] = answer
        self._answers.move_to_end(run_key)
        if len(self._answers) > self._limits.runs_max:
            self._answers.popitem(last=False)
            counters.CACHE_EVICTIONS.labels("runs").inc()


def _unavailable() -> Unavailable:
    return Unavailable(
        "SERVICE_UNAVAILABLE",
        "the service 'metadata', which knows the runs, does not answer; send the batch again",
        metadata={"service": "metadata"},
        retry_delay_s=1.0,
    )
