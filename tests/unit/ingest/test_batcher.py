"""Any arrivals: no block over its limits, none older than its age, nothing lost, nothing beyond the queue's limit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.errors import ResourceExhausted
from runyard_server.ingest.batcher import Batcher, Block, BlockLimits

LIMITS = BlockLimits(
    block_rows_max=10,
    block_bytes_max=100,
    block_age_max_s=0.2,
    queue_bytes_max=250,
    inserts_max=2,
    retry_delay_s=0.5,
)


def add(
    batcher: Batcher[int], item: int, *, rows: int = 1, size: int = 1, now: float = 0.0
) -> None:
    batcher.add(item, rows=rows, size_bytes=size, now_s=now)


def items(block: Block[int] | None) -> tuple[int, ...] | None:
    return None if block is None else block.items


def test_a_lone_batch_closes_at_once() -> None:
    """While nothing is being inserted a block closes at once."""
    batcher: Batcher[int] = Batcher(LIMITS)
    assert batcher.due_s() is None
    add(batcher, 1, now=5.0)
    assert batcher.due_s() == 5.0
    assert items(batcher.take(5.0)) == (1,)


def test_batches_gather_while_an_insert_goes_on() -> None:
    """The next block closes when its oldest batch is old enough, and not before."""
    batcher: Batcher[int] = Batcher(LIMITS)
    add(batcher, 1)
    assert batcher.take(0.0) is not None
    add(batcher, 2, now=1.0)
    add(batcher, 3, now=1.1)
    assert batcher.due_s() == pytest.approx(1.2)
    assert batcher.take(1.19) is None
    block = batcher.take(1.2)
    assert items(block) == (2, 3)
    assert block is not None
    assert block.age_s == pytest.approx(0.2)


def test_the_end_of_an_insert_closes_the_next_block() -> None:
    """Once the insert ends, what gathered goes at once."""
    batcher: Batcher[int] = Batcher(LIMITS)
    add(batcher, 1)
    first = batcher.take(0.0)
    assert first is not None
    add(batcher, 2, now=0.01)
    assert batcher.take(0.01) is None
    batcher.release(first)
    assert items(batcher.take(0.02)) == (2,)


def test_a_full_block_closes_at_once() -> None:
    """A block of block_rows_max rows waits for nothing but a free inserter."""
    batcher: Batcher[int] = Batcher(LIMITS)
    add(batcher, 1)
    assert batcher.take(0.0) is not None
    add(batcher, 2, rows=6)
    assert batcher.take(0.0) is None
    add(batcher, 3, rows=5)
    assert items(batcher.take(0.0)) == (2,)
    assert batcher.take(99.0) is None, "both inserters are busy"


def test_a_batch_beyond_the_limits_of_a_block_goes_alone() -> None:
    """A single batch may exceed a block's limits, and then makes a block alone."""
    batcher: Batcher[int] = Batcher(LIMITS)
    add(batcher, 1, rows=50)
    add(batcher, 2)
    assert items(batcher.take(0.0)) == (1,)


def test_a_full_queue_refuses_with_a_delay() -> None:
    """QUEUE_FULL says the limit and when to come again; what is inserted counts as held until it is released."""
    batcher: Batcher[int] = Batcher(LIMITS)
    add(batcher, 1, size=200)
    block = batcher.take(0.0)
    assert block is not None
    add(batcher, 2, size=50)
    with pytest.raises(ResourceExhausted) as caught:
        add(batcher, 3, size=1)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_delay_s == 0.5
    assert caught.value.metadata == {"queue": "ingest", "limit": "250", "value": "250"}
    batcher.release(block)
    add(batcher, 3, size=1)
    assert batcher.held_bytes == 51


def test_an_empty_queue_takes_any_batch() -> None:
    """A batch larger than the whole queue is taken when nothing else is held; else it could never be sent."""
    batcher: Batcher[int] = Batcher(LIMITS)
    add(batcher, 1, size=10_000)
    assert batcher.held_bytes == 10_000


@dataclass
class Arrival:
    pause_s: float
    rows: int
    size_bytes: int
    ends: bool


@given(
    st.lists(
        st.builds(
            Arrival,
            pause_s=st.floats(0, 0.3),
            rows=st.integers(0, 15),
            size_bytes=st.integers(1, 120),
            ends=st.booleans(),
        ),
        max_size=60,
    )
)
def test_any_arrivals_keep_the_limits(arrivals: list[Arrival]) -> None:
    """No block is over its limits unless it is one batch; order is kept; nothing is lost; none waits beyond its age."""
    batcher: Batcher[int] = Batcher(LIMITS)
    sizes: dict[int, Arrival] = {}
    inserting: list[Block[int]] = []
    inserted: list[int] = []
    now_s = 0.0

    def take_all() -> None:
        while (block := batcher.take(now_s)) is not None:
            rows = sum(sizes[item].rows for item in block.items)
            size = sum(sizes[item].size_bytes for item in block.items)
            assert (rows, size) == (block.rows, block.size_bytes)
            assert len(block.items) == 1 or (rows <= 10 and size <= 100)
            inserting.append(block)
            inserted.extend(block.items)
        assert len(inserting) <= LIMITS.inserts_max
        due_s = batcher.due_s()
        assert due_s is None or due_s > now_s

    for number, arrival in enumerate(arrivals):
        # Time goes on in steps no longer than the next block is due, as the pipeline's timer makes it.
        end_s = now_s + arrival.pause_s
        while (due_s := batcher.due_s()) is not None and due_s <= end_s:
            now_s = due_s
            take_all()
        now_s = end_s
        if arrival.ends and inserting:
            batcher.release(inserting.pop(0))
            take_all()
        held = batcher.held_bytes
        try:
            add(batcher, number, rows=arrival.rows, size=arrival.size_bytes, now=now_s)
            sizes[number] = arrival
        except ResourceExhausted:
            assert held and held + arrival.size_bytes > LIMITS.queue_bytes_max
        assert batcher.held_bytes <= max(LIMITS.queue_bytes_max, arrival.size_bytes)
        take_all()
    while not batcher.is_idle:
        if inserting:
            batcher.release(inserting.pop(0))
        take_all()
    assert inserted == sorted(sizes)
    assert batcher.held_bytes == 0
