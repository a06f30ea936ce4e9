"""The way of a batch through ingest: validate, know the run, drop repeats, join to a block, insert, answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, Internal, Unavailable
from runyard_server.domain.points import Batch, Journal, Rejection, metric_id
from runyard_server.domain.run import RunKey
from runyard_server.ingest import counters
from runyard_server.ingest.batcher import Batcher, Block, BlockLimits
from runyard_server.ingest.census import MetricCensus
from runyard_server.ingest.dedupe import BatchKey, Dedupe, Durable, batch_key
from runyard_server.ingest.runs import RunCache
from runyard_server.ingest.validate import (
    BatchLimits,
    Problem,
    ValidBatch,
    batch_bytes,
    refuse_media,
    refuse_metrics,
    validate_batch,
)
from runyard_server.ingest.writer import BlockWriter, Waiting
from runyard_server.storage.ports.points import BlockEntry, PointWriter

log = logging.getLogger("runyard.ingest")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Says that a batch is durable; see ingest.v1.WriteBatchResponse."""

    first_sequence: int
    last_sequence: int
    rejections: tuple[Rejection, ...]
    is_repeat: bool


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """The limits of all parts."""

    batch: BatchLimits
    block: BlockLimits
    metrics_per_run_max: int
    system_metrics_per_run_max: int
    metric_ids_max: int
    media_names_per_run_max: int
    durable_batches_max: int


class Pipeline:
    """Takes batches with `write` while `run` is going on."""

    def __init__(
        self,
        limits: PipelineLimits,
        *,
        points: PointWriter,
        writer: BlockWriter,
        runs: RunCache,
        clock: Clock,
    ) -> None:
        self._limits = limits
        self._points = points
        self._writer = writer
        self._runs = runs
        self._clock = clock
        self._limits_of = {
            Journal.RUN: limits.metrics_per_run_max,
            Journal.SYSTEM: limits.system_metrics_per_run_max,
        }
        self._censuses = {
            journal: MetricCensus(metrics_per_run_max=limit, ids_max=limits.metric_ids_max)
            for journal, limit in self._limits_of.items()
        }
        self._media_census = MetricCensus(
            metrics_per_run_max=limits.media_names_per_run_max, ids_max=limits.metric_ids_max
        )
        self._dedupe: Dedupe[Waiting] = Dedupe(durable_max=limits.durable_batches_max)
        self._batcher: Batcher[Waiting] = Batcher(limits.block)
        self._wake = asyncio.Event()
        self._is_stopping = False
        # Batches that wait for their answer, in order of arrival.
        self._writing: dict[tuple[RunKey, asyncio.Future[None]], None] = {}

    @property
    def held_bytes(self) -> int:
        """Returns the bytes of all batches that wait or are being inserted."""
        return self._batcher.held_bytes

    async def write(self, batch: Batch, *, deadline_s: float) -> Acknowledgement:
        """Returns when the batch is durable. Safe to repeat; a repeat in flight joins the first.

        `deadline_s`, by Clock.monotonic_s, is when the caller stops waiting. A cancelled call takes nothing back.
        Raises InvalidArgument, NotFound, FailedPrecondition, ResourceExhausted, Unavailable; see ingest.v1.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (batch.run_key, done)
        self._writing[entry] = None
        try:
            return await self._write(batch, deadline_s)
        except DomainError as error:
            counters.BATCHES.labels("refused").inc()
            counters.BATCHES_REFUSED.labels(error.reason).inc()
            raise
        finally:
            del self._writing[entry]
            done.set_result(None)

    async def run(self) -> None:
        """Closes blocks and inserts them until cancelled."""
        async with asyncio.TaskGroup() as inserts:
            while True:
                self._wake.clear()
                now_s = self._clock.monotonic_s()
                block = self._batcher.take(now_s)
                if block is not None:
                    inserts.create_task(self._insert_block(block))
                    continue
                due_s = self._batcher.due_s()
                try:
                    async with asyncio.timeout(None if due_s is None else max(due_s - now_s, 0.0)):
                        await self._wake.wait()
                except TimeoutError:
                    pass  # the oldest batch has waited long enough

    async def forget_runs(self, run_keys: Sequence[RunKey]) -> None:
        """Has metadata asked anew about the runs, and returns when the batches that were let in before have their answers."""
        self._runs.forget(run_keys)
        gone = frozenset(run_keys)
        let_in = [done for key, done in self._writing if key in gone]
        if let_in:
            await asyncio.wait(let_in)

    def stop(self) -> None:
        """Refuses further batches. What is not inserted by now has nobody who waits for it: the listener is closed."""
        self._is_stopping = True

    async def _write(self, batch: Batch, deadline_s: float) -> Acknowledgement:
        if self._is_stopping:
            raise Unavailable("STOPPING", "ingest is stopping; send the batch again")
        valid = validate_batch(batch, self._limits.batch)
        await self._runs.check(batch.run_key, batch.writer)
        valid = await self._apply_media_census(await self._apply_census(valid))
        key = batch_key(batch)
        # No await from here to the queue: of equal batches one is inserted.
        known = self._dedupe.find(key)
        if isinstance(known, Durable):
            counters.BATCHES.labels("repeat").inc()
            return _acknowledge(key, known.rejections, is_repeat=True)
        if known is not None:
            counters.BATCHES.labels("joined").inc()
            known.deadline_s = max(known.deadline_s, deadline_s)
        else:
            known = self._enqueue(key, valid, deadline_s)
        await asyncio.shield(known.outcome)
        return _acknowledge(key, valid.rejections, is_repeat=False)

    async def _apply_census(self, valid: ValidBatch) -> ValidBatch:
        batch = valid.batch
        census = self._censuses.get(batch.journal)
        if census is None:  # lines have no names
            return valid
        refused = {rejection.metric for rejection in valid.rejections}
        positions = [
            position for position, name in enumerate(batch.metric_names) if name not in refused
        ]
        ids = [metric_id(batch.metric_names[position]) for position in positions]
        limit = self._limits_of[batch.journal]
        if census.needs_load(batch.run_key, ids):
            # One more than the limit would be of no use: at the limit every new name is refused.
            stored = await self._points.read_metric_ids(
                batch.run_key, limit=limit, journal=batch.journal
            )
            census.load(batch.run_key, stored.tolist())
        beyond = census.admit(batch.run_key, ids)
        counters.CACHE_EVICTIONS.labels("metric_ids").inc(census.take_evictions())
        if not beyond:
            return valid
        if batch.journal == Journal.SYSTEM:
            message = (
                f"the run has {limit} system metrics, which is the limit; this one is not stored:"
                " narrow open_metrics_filters, or raise ingest.system_metrics_per_run_max"
            )
        else:
            message = f"the run has {limit} metrics, which is the limit; this one is not stored"
        problem = Problem("METRIC_COUNT_EXCEEDED", message)
        fewer = refuse_metrics(batch, {positions[place]: problem for place in beyond})
        return ValidBatch(fewer.batch, valid.rejections + fewer.rejections)

    async def _apply_media_census(self, valid: ValidBatch) -> ValidBatch:
        names = list(dict.fromkeys(value.name for value in valid.batch.media_values))
        if not names:
            return valid
        run_key, ids = valid.batch.run_key, list(map(metric_id, names))
        limit = self._limits.media_names_per_run_max
        if self._media_census.needs_load(run_key, ids):
            stored = await self._points.read_media_ids(run_key, limit=limit)
            self._media_census.load(run_key, stored.tolist())
        beyond = self._media_census.admit(run_key, ids)
        counters.CACHE_EVICTIONS.labels("media_ids").inc(self._media_census.take_evictions())
        problem = Problem(
            "METRIC_COUNT_EXCEEDED",
            f"the run has {limit} names of media, which is the limit; this one is not stored",
        )
        return refuse_media(valid, {names[place]: problem for place in beyond})

    def _enqueue(self, key: BatchKey, valid: ValidBatch, deadline_s: float) -> Waiting:
        outcome = asyncio.get_running_loop().create_future()
        entry = BlockEntry(valid.batch, valid.points_rejected)
        waiting = Waiting(key, entry, valid.rejections, outcome, deadline_s)
        self._batcher.add(
            waiting,
            rows=valid.batch.row_count,
            size_bytes=batch_bytes(valid.batch),
            now_s=self._clock.monotonic_s(),
        )
        self._dedupe.begin(key, waiting)
        counters.QUEUE_BYTES.set(self._batcher.held_bytes)
        self._wake.set()
        return waiting

    async def _insert_block(self, block: Block[Waiting]) -> None:
        counters.BLOCK_ROWS.observe(block.rows)
        counters.BLOCK_AGE_SECONDS.observe(block.age_s)
        try:
            await self._insert(block.items)
        finally:
            for waiting in block.items:
                if not waiting.outcome.done():  # cancelled: the process is ending
                    self._settle([waiting], Unavailable("STOPPING", "ingest is stopping"))
            self._batcher.release(block)
            counters.QUEUE_BYTES.set(self._batcher.held_bytes)
            self._wake.set()

    async def _insert(self, items: Sequence[Waiting]) -> None:
        """Inserts and settles the batches; the edge of the background task."""
        try:
            await self._writer.insert(items)
        except DomainError as error:
            self._settle(items, error)
        except Exception as error:  # the edge of the background task
            log.exception(counters.EVENT_BLOCK_FAILED, extra={"fields": {"batches": len(items)}})
            if len(items) == 1:
                self._settle(items, _internal(error))
                return
            for one in items:  # one bad batch must not take the others with it
                await self._insert([one])
        else:
            self._settle(items, None)

    def _settle(self, items: Sequence[Waiting], error: DomainError | None) -> None:
        for waiting in items:
            if error is None:
                self._dedupe.succeed(waiting.key, Durable(waiting.rejections))
                waiting.outcome.set_result(None)
                _count_durable(waiting)
            else:
                self._dedupe.fail(waiting.key)
                counters.BATCHES.labels("failed").inc()
                if not waiting.outcome.cancelled():
                    waiting.outcome.set_exception(_copy(error))
                    waiting.outcome.exception()  # seen: those who waited may all be gone
        counters.CACHE_EVICTIONS.labels("durable_batches").inc(self._dedupe.take_evictions())


def _acknowledge(
    key: BatchKey, rejections: tuple[Rejection, ...], *, is_repeat: bool
) -> Acknowledgement:
    return Acknowledgement(key.first_sequence, key.last_sequence, rejections, is_repeat)


def _count_durable(waiting: Waiting) -> None:
    batch = waiting.entry.batch
    counters.BATCHES.labels("durable").inc()
    counters.POINTS.inc(batch.point_count)
    counters.CHANGES.inc(len(batch.summary_changes))
    counters.CONSOLE_LINES.inc(batch.line_count)
    counters.MEDIA_VALUES.inc(len(batch.media_values))
    for rejection in waiting.rejections:
        counters.POINTS_REJECTED.labels(rejection.reason).inc(rejection.points)


def _internal(error: Exception) -> Internal:
    return Internal(
        "INTERNAL",
        f"the batch could not be stored because of a bug of the server ({type(error).__name__}); its log tells more",
    )


def _copy(error: DomainError) -> DomainError:
    """Returns an equal error: each waiter raises its own, with a traceback of its own."""
    return type(error)(
        error.reason, error.message, metadata=error.metadata, retry_delay_s=error.retry_delay_s
    )
