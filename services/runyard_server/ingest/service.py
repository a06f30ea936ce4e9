"""The ingest service: takes what writers stream, and answers when the store has it durably."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

from runyard_server.domain.clock import Clock
from runyard_server.domain.purges import TablePurge
from runyard_server.domain.run import RunKey
from runyard_server.ingest.batcher import BlockLimits
from runyard_server.ingest.handler import IngestHandler
from runyard_server.ingest.pipeline import Pipeline, PipelineLimits
from runyard_server.ingest.runs import RunCache, RunCacheLimits, RunSource
from runyard_server.ingest.validate import BatchLimits
from runyard_server.ingest.writer import BlockWriter, RepeatPauses
from runyard_server.rpc.deleted_runs import check_purge_count, check_run_is_deleted
from runyard_server.storage.ports.console import ConsoleDropper
from runyard_server.storage.ports.points import PointWriter, RunPurger


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """Limits of the write path."""

    batch_bytes_max: int = 4 * 1024 * 1024
    """Largest batch: the bytes of its columns, names and changes."""
    summary_value_bytes_max: int = 256 * 1024
    """Largest value of one summary key, as JSON."""
    metrics_per_run_max: int = 1_000_000
    """Metric names that one run may have; further ones are refused, the run's other metrics are not."""
    system_metrics_per_run_max: int = 5_000
    """Names of system metrics that one run may have, of all its nodes together; further ones are refused likewise."""
    media_names_per_run_max: int = 10_000
    """Names under which one run may log media; further ones are refused, the run's other values are not."""
    block_rows_max: int = 400_000
    """Points at which a block closes. Twice as many cost up to a fifth less CPU, in merges, and 300 MB more memory."""
    block_bytes_max: int = 48 * 1024 * 1024
    """Bytes at which a block closes."""
    block_age_max_s: float = 0.2
    """Longest that a batch waits for others to join its block while another block is being inserted."""
    inserts_max: int = 2
    """Blocks inserted at once."""
    queue_bytes_max: int = 96 * 1024 * 1024
    """Bytes of batches that may wait or be inserted; further ones get RESOURCE_EXHAUSTED and a delay."""
    queue_retry_delay_s: float = 0.25
    """The delay told to them."""
    deadline_default_s: float = 30.0
    """How long a call without a deadline waits for the store."""
    insert_pause_first_s: float = 0.1
    """Mean pause before a block is inserted again; doubled each time."""
    insert_pause_max_s: float = 2.0
    """Longest mean pause."""
    durable_batches_max: int = 16_384
    """Acknowledged batches remembered, so that a repeat costs no insert."""
    metric_ids_max: int = 4_000_000
    """Metric names of all runs remembered for the limit per run."""
    runs_max: int = 65_536
    """Runs remembered as known to metadata."""
    run_fresh_s: float = 30.0
    """How long metadata's word on a run counts: a deleted run is noticed within this time."""
    run_stale_max_s: float = 3600.0
    """How long it counts while metadata does not answer."""
    run_refusal_s: float = 2.0
    """How long metadata's refusal of a run is repeated without asking again."""
    run_lookup_timeout_s: float = 10.0
    """Longest wait for metadata."""


class IngestService:
    """Holds the pipeline; see rpc.service.Service."""

    name = "ingest"

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        config: IngestConfig,
        siblings: RunSource,
        purger: RunPurger,
        dropper: ConsoleDropper,
        clock: Clock,
    ) -> None:
        self._pipeline = pipeline
        self._siblings = siblings
        self._purger = purger
        self._handler = IngestHandler(
            pipeline,
            self,
            dropper=dropper,
            deadline_default_s=config.deadline_default_s,
            clock=clock,
        )

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds IngestService."""
        return self._handler.register(server)

    async def start(self) -> None:
        """Does nothing: the store is migrated by whoever opened it."""

    async def run(self) -> None:
        """Inserts blocks until cancelled."""
        await self._pipeline.run()

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Removes all that deleted runs streamed; returns what was freed of each table. Safe to repeat.

        Raises FailedPrecondition RUN_NOT_DELETED, Unavailable.
        """
        check_purge_count(run_keys)
        for run_key in run_keys:
            await check_run_is_deleted(self._siblings, run_key)
        # From here on their batches are refused; those that were let in before are awaited, and go with the rest.
        await self._pipeline.forget_runs(run_keys)
        return await self._purger.purge_runs(run_keys)

    async def stop(self) -> None:
        """Refuses what may still come; every caller has its answer or is gone by now."""
        self._pipeline.stop()


def build(
    config: IngestConfig,
    *,
    points: PointWriter,
    purger: RunPurger,
    dropper: ConsoleDropper,
    siblings: RunSource,
    clock: Clock,
) -> IngestService:
    """Returns the service, not started."""
    pipeline = build_pipeline(config, points=points, siblings=siblings, clock=clock)
    return IngestService(
        pipeline, config=config, siblings=siblings, purger=purger, dropper=dropper, clock=clock
    )


def build_pipeline(
    config: IngestConfig, *, points: PointWriter, siblings: RunSource, clock: Clock
) -> Pipeline:
    """Returns the write path without its gRPC edge; the simulator runs it under virtual time."""
    limits = PipelineLimits(
        batch=BatchLimits(config.batch_bytes_max, config.summary_value_bytes_max),
        block=BlockLimits(
            block_rows_max=config.block_rows_max,
            block_bytes_max=config.block_bytes_max,
            block_age_max_s=config.block_age_max_s,
            queue_bytes_max=config.queue_bytes_max,
            inserts_max=config.inserts_max,
            retry_delay_s=config.queue_retry_delay_s,
        ),
        metrics_per_run_max=config.metrics_per_run_max,
        system_metrics_per_run_max=config.system_metrics_per_run_max,
        metric_ids_max=config.metric_ids_max,
        media_names_per_run_max=config.media_names_per_run_max,
        durable_batches_max=config.durable_batches_max,
    )
    run_limits = RunCacheLimits(
        runs_max=config.runs_max,
        fresh_s=config.run_fresh_s,
        stale_max_s=config.run_stale_max_s,
        refusal_s=config.run_refusal_s,
        lookup_timeout_s=config.run_lookup_timeout_s,
    )
    pauses = RepeatPauses(config.insert_pause_first_s, config.insert_pause_max_s)
    return Pipeline(
        limits,
        points=points,
        writer=BlockWriter(points, pauses, clock=clock),
        runs=RunCache(siblings, run_limits, clock=clock),
        clock=clock,
    )
