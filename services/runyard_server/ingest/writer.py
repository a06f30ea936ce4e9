"""Inserts a block, and repeats the same block while the store is away, for as long as anyone waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.domain.points import Rejection
from runyard_server.ingest import counters
from runyard_server.ingest.dedupe import BatchKey
from runyard_server.storage.ports.points import BlockEntry, PointWriter

log = logging.getLogger("runyard.ingest")

_RANDOM_BITS = 16


@dataclass(slots=True, eq=False)
class Waiting:
    """A batch on its way into the store, and those who wait for it."""

    key: BatchKey
    entry: BlockEntry
    rejections: tuple[Rejection, ...]
    outcome: asyncio.Future[None]
    """Done when the batch is durable or given up."""
    deadline_s: float
    """When the last of those who wait stops to, by Clock.monotonic_s."""


@dataclass(frozen=True, slots=True)
class RepeatPauses:
    """Pauses between two inserts of one block: doubled each time, drawn between half and one and a half."""

    first_s: float
    longest_s: float


class BlockWriter:
    """The only place of the write path that repeats anything."""

    def __init__(self, points: PointWriter, pauses: RepeatPauses, *, clock: Clock) -> None:
        self._points = points
        self._pauses = pauses
        self._clock = clock

    async def insert(self, waiting: Sequence[Waiting]) -> None:
        """Returns when all is durable.

        Raises Unavailable when nobody waits any longer: then the block may be in the store, whole, in part or not.
        """
        entries = [one.entry for one in waiting]
        started_s = self._clock.monotonic_s()
        pause_s = self._pauses.first_s
        while True:
            error = await self._try(entries, waiting)
            if error is None:
                counters.INSERT_SECONDS.observe(self._clock.monotonic_s() - started_s)
                return
            drawn_s = pause_s * (0.5 + self._clock.random_bits(_RANDOM_BITS) / 2**_RANDOM_BITS)
            if self._remaining_s(waiting) <= drawn_s:
                raise error
            log.warning(
                counters.EVENT_BLOCK_REPEATED,
                extra={"fields": {"batches": len(entries), "cause": error.message}},
            )
            counters.INSERT_REPEATS.inc()
            await asyncio.sleep(drawn_s)
            pause_s = min(2 * pause_s, self._pauses.longest_s)

    async def _try(
        self, entries: Sequence[BlockEntry], waiting: Sequence[Waiting]
    ) -> Unavailable | ResourceExhausted | None:
        try:
            async with asyncio.timeout(max(self._remaining_s(waiting), 0.0)):
                await self._points.insert_block(entries)
        except TimeoutError:
            return Unavailable(
                "STORE_UNAVAILABLE",
                "the store did not take the batch in the time that the call had; send it again",
                metadata={"store": "points"},
                retry_delay_s=self._pauses.longest_s,
            )
        except (Unavailable, ResourceExhausted) as error:
            return error
        return None

    def _remaining_s(self, waiting: Sequence[Waiting]) -> float:
        return max(one.deadline_s for one in waiting) - self._clock.monotonic_s()
