"""Remembers which batches are durable and which are in flight, so that a repeat costs no insert. Pure.

It saves work and carries no promise: what slips through (another replica, a restart, an evicted entry) the table's
key absorbs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from runyard_server.domain.points import Batch, Rejection
from runyard_server.domain.run import RunKey

InFlight = TypeVar("InFlight")


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Names a batch by its range and its shape.

    The shape is there for writers that cut one huge record into several batches of the same range: these are no
    repeats of each other.
    """

    run_key: RunKey
    writer: int
    first_sequence: int
    last_sequence: int
    shape: int


@dataclass(frozen=True, slots=True)
class Durable:
    """A batch that is in the store, and what was refused of it."""

    rejections: tuple[Rejection, ...]


def batch_key(batch: Batch) -> BatchKey:
    """Returns the key of a batch as it was sent."""
    shape = (
        batch.metric_names,
        tuple((table.metric_indexes, table.steps.size) for table in batch.tables),
        tuple(change.key for change in batch.summary_changes),
        batch.journal,
        tuple((block.first_line, block.line_count) for block in batch.console_blocks),
        tuple((value.name, value.step) for value in batch.media_values),
    )
    return BatchKey(
        batch.run_key, batch.writer, batch.first_sequence, batch.last_sequence, hash(shape)
    )


class Dedupe(Generic[InFlight]):
    """Knows batches in flight, all of them, and the most recent durable ones, at most `durable_max`."""

    def __init__(self, *, durable_max: int) -> None:
        assert durable_max >= 1, durable_max
        self._durable_max = durable_max
        self._durable: OrderedDict[BatchKey, Durable] = OrderedDict()
        self._in_flight: dict[BatchKey, InFlight] = {}
        self._evictions = 0

    def find(self, key: BatchKey) -> Durable | InFlight | None:
        """Returns what is known of the batch: durable, in flight, or None."""
        durable = self._durable.get(key)
        if durable is not None:
            self._durable.move_to_end(key)
            return durable
        return self._in_flight.get(key)

    def begin(self, key: BatchKey, in_flight: InFlight) -> None:
        """Notes that the batch, of which nothing was known, is on its way into the store."""
        assert self.find(key) is None, f"{key} is known already"
        self._in_flight[key] = in_flight

    def succeed(self, key: BatchKey, durable: Durable) -> None:
        """Notes that the batch in flight is durable."""
        del self._in_flight[key]
        self._durable[key] = durable
        if len(self._durable) > self._durable_max:
            self._durable.popitem(last=False)
            self._evictions += 1

    def fail(self, key: BatchKey) -> None:
        """Forgets the batch in flight: whether it is in the store is not known."""
        del self._in_flight[key]

    def take_evictions(self) -> int:
        """Returns how many durable batches were forgotten because there were too many since the last call."""
        evictions, self._evictions = self._evictions, 0
        return evictions
