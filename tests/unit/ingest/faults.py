"""Ports of ingest for its tests: a store that fails or waits on demand, a metadata that answers as told, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunDocument, RunKey, RunState
from runyard_server.ingest.pipeline import Pipeline
from runyard_server.ingest.service import IngestConfig, build_pipeline
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.points import BlockEntry


class LoopClock:
    """Time of the virtual loop; chance always in the middle."""

    def now_unix_ns(self) -> int:
        return round(self.monotonic_s() * 1e9)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def random_bits(self, bits: int) -> int:
        return 1 << (bits - 1)


class FaultyPoints(MemoryPoints):
    """Keeps points in memory; before each insert it waits for `gate`, then raises the next of `errors`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[BaseException | None] = []
        self.stores_before_error = False
        self.blocks: list[list[BlockEntry]] = []
        self.insert_s = 0.0

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        self.blocks.append(list(entries))
        await asyncio.sleep(self.insert_s)
        await self.gate.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is None or self.stores_before_error:
            await super().insert_block(entries)
        if error is not None:
            raise error


class FakeMetadata:
    """Answers get_run with what it knew when it was asked; counts the questions."""

    def __init__(self) -> None:
        self.error: DomainError | None = None
        self.writer_count = 9
        self.questions = 0
        self.answer_s = 0.0

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        assert run_key is not None
        self.questions += 1
        writer_count = self.writer_count
        await asyncio.sleep(self.answer_s)
        if self.error is not None:
            raise self.error
        return RunDocument(run_key, "e", "p", "r", "n", RunState.RUNNING, writer_count=writer_count)


@asynccontextmanager
async def running(points: FaultyPoints, metadata: FakeMetadata | None = None, **config: Any) -> Any:
    """Gives a pipeline that runs."""
    pipeline: Pipeline = build_pipeline(
        IngestConfig(**config),
        points=points,
        siblings=metadata or FakeMetadata(),
        clock=LoopClock(),
    )
    task = asyncio.create_task(pipeline.run())
    try:
        yield pipeline
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
