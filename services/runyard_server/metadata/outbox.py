"""Publishes changed run documents to the index: at least once, the newest version wins, woken by each commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, Unavailable
from runyard_server.domain.run import RunDocument
from runyard_server.storage.ports.run_store import RunStore, RunTransaction
from runyard_server.storage.ports.runs import RunIndex

EVENT_INDEX_AWAY = "run_index_away"
EVENT_INDEX_BACK = "run_index_back"
EVENT_DOCUMENT_REFUSED = "run_document_refused"

OUTBOX_PUBLISHED = Counter(
    "runyard_outbox_published_total", "Run documents published to the index."
)
OUTBOX_FAILURES = Counter(
    "runyard_outbox_failures_total", "Rounds of publishing that failed, by reason.", ["reason"]
)
OUTBOX_REFUSED = Counter(
    "runyard_outbox_refused_total", "Run documents that the index refused for good."
)
OUTBOX_WAITING = Gauge("runyard_outbox_waiting", "Runs whose newest version is not in the index.")

log = logging.getLogger("runyard.metadata")


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """How documents are published."""

    batch_count_max: int = 500
    """Documents in one insert into the index."""
    batch_bytes_max: int = 8 * 1024 * 1024
    """Bytes of their configs together."""
    poll_interval_s: float = 2.0
    """How often to look for what other replicas, or an earlier process, left behind."""
    gather_s: float = 0.02
    """Pause after a commit, so that one insert takes many documents."""
    publish_timeout_s: float = 30.0
    """Longest wait for one insert."""
    retry_delay_s: float = 0.2
    """Pause after the first failure; doubles with each further one."""
    retry_delay_max_s: float = 10.0
    """Longest pause."""


class Outbox:
    """Moves documents from the store's outbox into the index."""

    def __init__(
        self, config: OutboxConfig, *, runs: RunStore, index: RunIndex, clock: Clock
    ) -> None:
        self._config = config
        self._runs = runs
        self._index = index
        self._clock = clock
        self._has_work = asyncio.Event()
        self._failure_count = 0

    def wake(self) -> None:
        """Says that a transaction may have put something in; publishing starts at once."""
        self._has_work.set()

    async def run(self) -> None:
        """Publishes until cancelled. A store or index that is away is tried again, at growing intervals."""
        while True:
            try:
                is_empty = await self.publish_batch()
            except DomainError as error:
                await self._pause(error)
                continue
            self._note_success()
            if is_empty:
                await self._wait()

    async def flush(self, *, timeout_s: float) -> bool:
        """Publishes what waits; returns whether nothing is left. Raises nothing: what is left waits in the store."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.publish_batch():
                    pass
        except (DomainError, TimeoutError):
            return False
        return True

    async def publish_batch(self) -> bool:
        """Publishes one batch; returns whether the outbox was empty. Raises Unavailable if store or index are away."""
        self._has_work.clear()
        config = self._config
        documents = await self._runs.transact(
            lambda tx: tx.list_outbox(
                limit=config.batch_count_max, bytes_max=config.batch_bytes_max
            )
        )
        if not documents:
            OUTBOX_WAITING.set(0)
            return True
        await self._publish(documents)
        versions = [(document.run_key, document.version) for document in documents]

        def clear(tx: RunTransaction) -> int:
            tx.clear_outbox(versions)
            return tx.count_outbox()

        OUTBOX_WAITING.set(await self._runs.transact(clear))
        return False

    async def _publish(self, documents: Sequence[RunDocument]) -> None:
        try:
            await self._insert(documents)
        except Unavailable:
            raise
        except DomainError as error:
            # The index refuses at least one document. One bad one must not keep the others waiting for ever.
            if len(documents) == 1:
                _report_refusal(documents[0], error)
                return
            for document in documents:
                await self._publish([document])

    async def _insert(self, documents: Sequence[RunDocument]) -> None:
        try:
            async with asyncio.timeout(self._config.publish_timeout_s):
                await self._index.publish(documents)
        except TimeoutError:
            raise Unavailable(
                "STORE_UNAVAILABLE",
                f"the index of runs did not answer within {self._config.publish_timeout_s:g} s",
                metadata={"store": "run_index"},
            ) from None
        OUTBOX_PUBLISHED.inc(len(documents))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._config.poll_interval_s):
                await self._has_work.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._config.gather_s)

    async def _pause(self, error: DomainError) -> None:
        OUTBOX_FAILURES.labels(error.reason).inc()
        if self._failure_count == 0:
            log.warning(EVENT_INDEX_AWAY, extra={"fields": {"message": error.message}})
        delay_s = min(
            self._config.retry_delay_s * 2 ** min(self._failure_count, 16),
            self._config.retry_delay_max_s,
        )
        self._failure_count += 1
        await asyncio.sleep(delay_s * (0.5 + self._clock.random_bits(16) / 2**17))

    def _note_success(self) -> None:
        if self._failure_count:
            log.info(EVENT_INDEX_BACK, extra={"fields": {"failures": self._failure_count}})
        self._failure_count = 0


def _report_refusal(document: RunDocument, error: DomainError) -> None:
    OUTBOX_REFUSED.inc()
    log.error(
        EVENT_DOCUMENT_REFUSED,
        extra={
            "fields": {
                "run": document.path,
                "reason": error.reason,
                "message": error.message,
                "to_do": "the run is missing or outdated in lists until it changes; report this as a bug",
            }
        },
    )
