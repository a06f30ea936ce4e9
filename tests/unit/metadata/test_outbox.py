"""The outbox publishes every change, at least once, the newest last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from runyard_server.domain.errors import InvalidArgument, Unavailable
from runyard_server.domain.run import RunDocument
from runyard_server.metadata.outbox import Outbox, OutboxConfig
from runyard_server.storage.memory.runs import MemoryRunIndex
from tests.unit.metadata.desk import Desk

CONFIG = OutboxConfig(poll_interval_s=60.0, gather_s=0.0, retry_delay_s=0.001)


class FaultyIndex(MemoryRunIndex):
    """An index that is away for some calls, and refuses some documents for good."""

    def __init__(self) -> None:
        super().__init__()
        self.away_count = 0
        self.refused_ids: set[str] = set()
        self.call_sizes: list[int] = []
        self.has_published = asyncio.Event()

    async def publish(self, documents: Sequence[RunDocument]) -> None:
        self.call_sizes.append(len(documents))
        if self.away_count > 0:
            self.away_count -= 1
            raise Unavailable("STORE_UNAVAILABLE", "away")
        if any(document.run_id in self.refused_ids for document in documents):
            raise InvalidArgument("FIELD_INVALID", "no such JSON")
        await super().publish(documents)
        self.has_published.set()


def make_outbox(desk: Desk, index: MemoryRunIndex, config: OutboxConfig = CONFIG) -> Outbox:
    return Outbox(config, runs=desk.runs, index=index, clock=desk.clock)


async def waiting_count(desk: Desk) -> int:
    return await desk.runs.transact(lambda tx: tx.count_outbox())


async def test_a_change_is_published_at_once() -> None:
    """A commit wakes the publisher; the poll interval is not waited for."""
    desk, index = Desk(), FaultyIndex()
    outbox = make_outbox(desk, index)
    running = asyncio.create_task(outbox.run())
    await asyncio.sleep(0)
    started = await desk.start()
    outbox.wake()
    async with asyncio.timeout(5):
        await index.has_published.wait()
    found = await index.read_runs([started.run.run_key])
    assert started.run == found[started.run.run_key]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_fails_is_tried_again() -> None:
    """An index that is away loses nothing; batches are cut at their count."""
    desk, index = Desk(), FaultyIndex()
    for _ in range(5):
        await desk.start()
    index.away_count = 3
    outbox = make_outbox(desk, index, replace(CONFIG, batch_count_max=2))
    running = asyncio.create_task(outbox.run())
    async with asyncio.timeout(5):
        while await waiting_count(desk):
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert index.call_sizes == [2, 2, 2, 2, 2, 1]


async def test_a_refused_document_does_not_block_the_others() -> None:
    """What the index refuses for good is set aside; all others are published."""
    desk, index = Desk(), FaultyIndex()
    for run_id in ("a", "bad", "c"):
        await desk.start(run_id)
    index.refused_ids = {"bad"}
    assert await make_outbox(desk, index).flush(timeout_s=5)
    assert await waiting_count(desk) == 0
    keys = await index.find_runs([("local", "p", name) for name in ("a", "bad", "c")])
    assert {"a", "c"} == {run_id for _, _, run_id in keys}


async def test_a_change_during_the_insert_is_published_too() -> None:
    """A document that changes while its older version is on its way stays in the outbox."""
    desk = Desk()
    started = await desk.start("x")

    class SlowIndex(FaultyIndex):
        async def publish(self, documents: Sequence[RunDocument]) -> None:
            if not self.call_sizes:
                await desk.finish(started)
            await super().publish(documents)

    index = SlowIndex()
    outbox = make_outbox(desk, index)
    assert not await outbox.publish_batch()
    assert await waiting_count(desk) == 1
    assert await outbox.flush(timeout_s=5)
    found = await index.read_runs([started.run.run_key])
    assert await desk.read(started) == found[started.run.run_key]


async def test_a_flush_gives_up_when_the_index_is_away() -> None:
    """A stopping service does not wait for ever; what is left stays in the store."""
    desk, index = Desk(), FaultyIndex()
    await desk.start()
    index.away_count = 10
    assert not await make_outbox(desk, index).flush(timeout_s=5)
    assert await waiting_count(desk) == 1
