"""Decides which batches make a block, and when it closes. Pure: no clock, no tasks.

```
 add ──► queue: oldest … newest ──► take: the oldest ones, up to the limits of a block ──► insert in flight ──► release
         └────────────── queue_bytes_max bounds all that was added and not yet released ─────────────────┘
```

While nothing is being inserted a block closes at once, so a lone batch waits for nothing. While an insert is going on, batches
gather: the next block closes when it is full, when its oldest batch is `block_age_max_s` old, or when the insert ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from runyard_server.domain.errors import ResourceExhausted

Item = TypeVar("Item")

TIME_TOLERANCE_S = 1e-6
"""A block that closes within this closes now: timers are not exacter."""


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """When a block closes, and how much may wait. A single batch beyond a block's limits makes a block alone."""

    block_rows_max: int
    block_bytes_max: int
    block_age_max_s: float
    queue_bytes_max: int
    inserts_max: int
    retry_delay_s: float


@dataclass(frozen=True, slots=True)
class Queued(Generic[Item]):
    """A batch in the queue."""

    item: Item
    rows: int
    size_bytes: int
    added_s: float


@dataclass(frozen=True, slots=True)
class Block(Generic[Item]):
    """Batches to be inserted at once."""

    items: tuple[Item, ...]
    rows: int
    size_bytes: int
    age_s: float
    """How long its oldest batch waited."""


class Batcher(Generic[Item]):
    """Holds the queue; see the module."""

    def __init__(self, limits: BlockLimits) -> None:
        self._limits = limits
        self._queue: deque[Queued[Item]] = deque()
        self._queue_rows = 0
        self._queue_bytes = 0
        self._held_bytes = 0
        self._inserts = 0

    @property
    def held_bytes(self) -> int:
        """Returns the bytes of all batches that wait or are being inserted."""
        return self._held_bytes

    @property
    def is_idle(self) -> bool:
        """Returns whether nothing waits and nothing is being inserted."""
        return not self._queue and not self._inserts

    def add(self, item: Item, *, rows: int, size_bytes: int, now_s: float) -> None:
        """Puts a batch at the end of the queue; raises ResourceExhausted QUEUE_FULL if too much is held already."""
        limit = self._limits.queue_bytes_max
        if self._held_bytes and self._held_bytes + size_bytes > limit:
            raise ResourceExhausted(
                "QUEUE_FULL",
                f"{self._held_bytes} bytes wait to be stored, at most {limit} may; "
                f"send the batch again after {self._limits.retry_delay_s:.3g} s",
                metadata={"queue": "ingest", "limit": limit, "value": self._held_bytes},
                retry_delay_s=self._limits.retry_delay_s,
            )
        self._queue.append(Queued(item, rows, size_bytes, now_s))
        self._queue_rows += rows
        self._queue_bytes += size_bytes
        self._held_bytes += size_bytes

    def due_s(self) -> float | None:
        """Returns when the next block closes unless something changes before; None: not by time alone."""
        if not self._queue or self._inserts >= self._limits.inserts_max:
            return None
        oldest_s = self._queue[0].added_s
        return oldest_s if self._may_close_now() else oldest_s + self._limits.block_age_max_s

    def take(self, now_s: float) -> Block[Item] | None:
        """Returns the next block if one closes now; `release` must follow when it is inserted or given up."""
        due_s = self.due_s()
        if due_s is None or due_s > now_s + TIME_TOLERANCE_S:
            return None
        oldest_s = self._queue[0].added_s
        items: list[Item] = []
        rows = size_bytes = 0
        while self._queue:
            first = self._queue[0]
            is_beyond = (
                rows + first.rows > self._limits.block_rows_max
                or size_bytes + first.size_bytes > self._limits.block_bytes_max
            )
            if items and is_beyond:
                break
            self._queue.popleft()
            items.append(first.item)
            rows += first.rows
            size_bytes += first.size_bytes
        self._queue_rows -= rows
        self._queue_bytes -= size_bytes
        self._inserts += 1
        return Block(tuple(items), rows, size_bytes, max(now_s - oldest_s, 0.0))

    def release(self, block: Block[Item]) -> None:
        """Notes that the block is no longer being inserted."""
        assert self._inserts > 0
        self._inserts -= 1
        self._held_bytes -= block.size_bytes
        assert self._held_bytes >= 0, self._held_bytes

    def _may_close_now(self) -> bool:
        return (
            self._inserts == 0
            or self._queue_rows >= self._limits.block_rows_max
            or self._queue_bytes >= self._limits.block_bytes_max
        )
