"""Random batches, in random groupings and with repeats: what memory says, chDB says, floats bit by bit."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.points import Batch, SummaryChange
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.points import BlockEntry, MetricStats, PointReader
from tests.stores import float_of, new_run_key, stored_points, table

METRICS = ("loss", "Loss", "ä/β", "a.b")
values = st.one_of(
    st.floats(width=64),
    st.sampled_from([-0.0, 0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]),
    st.integers(1, 2**51 - 1).map(lambda payload: float_of(0x7FF8_0000_0000_0000 | payload)),
)
times_unix_ns = st.one_of(
    st.integers(-(2**40), 2**62),
    st.integers(-(2**63), -(2**63) + 2_000_000),
    st.integers(2**63 - 2_000_000, 2**63 - 1),
)
steps = st.one_of(st.integers(-4, 8), st.integers(-(2**63), 2**63 - 1))


@dataclass(frozen=True, slots=True)
class Story:
    """Batches of two runs (numbers 0 and 1 stand for their keys), and the blocks in which they are inserted."""

    batches: tuple[Batch, ...]
    blocks: tuple[tuple[int, ...], ...]


@st.composite
def stories(draw: Callable[..., Any]) -> Story:
    batches = []
    next_sequence: dict[tuple[int, int], int] = {}
    for _ in range(draw(st.integers(1, 6))):
        run, writer = draw(st.integers(0, 1)), draw(st.integers(1, 3))
        first = sequence = next_sequence.get((run, writer), 1)
        tables = []
        for _ in range(draw(st.integers(0, 2))):
            indexes = draw(st.lists(st.integers(0, 3), unique=True, min_size=1, max_size=4))
            row_steps = draw(st.lists(steps, max_size=5))
            times = draw(st.lists(times_unix_ns, min_size=len(row_steps), max_size=len(row_steps)))
            rows = [
                (step, time, sequence + k)
                for k, (step, time) in enumerate(zip(row_steps, times, strict=True))
            ]
            sequence += len(rows)
            tables.append(table(indexes, rows, [[draw(values) for _ in rows] for _ in indexes]))
        changes = tuple(
            SummaryChange(
                first, draw(st.sampled_from("kK")), draw(st.sampled_from(["", "1", '"ü"']))
            )
            for _ in range(draw(st.integers(0, 2)))
        )
        last = max(sequence - 1, first)
        next_sequence[run, writer] = last + 1
        batches.append(Batch(RunKey(run), writer, first, last, METRICS, tuple(tables), changes))
    numbers = st.lists(st.integers(0, len(batches) - 1), min_size=1, max_size=4).map(tuple)
    repeats = tuple(draw(st.lists(numbers, max_size=3)))
    order = draw(st.permutations(range(len(batches))))
    cut = draw(st.integers(0, len(batches)))
    blocks = tuple(block for block in (tuple(order[:cut]), *repeats, tuple(order[cut:])) if block)
    return Story(tuple(batches), blocks)


@settings(max_examples=40)
@given(stories())
def test_memory_and_clickhouse_agree(clickhouse: ClickHouse, story: Story) -> None:
    """Points, catalogue, summaries and receipts are equal in both, whatever was repeated in whatever grouping."""
    asyncio.run(compare(clickhouse, story))


async def compare(clickhouse: ClickHouse, story: Story) -> None:
    runs = (new_run_key(), new_run_key())
    memory = MemoryPoints()
    writer = ClickHousePointWriter(clickhouse, clock=SystemClock())
    reader = ClickHousePointReader(clickhouse)
    batches = [replace(batch, run_key=runs[batch.run_key]) for batch in story.batches]
    for block in story.blocks:
        entries = [BlockEntry(batches[number], points_rejected=number) for number in block]
        await memory.insert_block(entries)
        await writer.insert_block(entries)
    for run in runs:
        assert await everything(reader, run) == await everything(memory, run)


async def everything(store: PointReader, run: RunKey) -> dict[str, Any]:
    """Returns all that the store knows of a run, as plain values."""
    series, _ = await store.read_series(run, METRICS, first_step=None, last_step=None, limit=1000)
    part, next_step = await store.read_series(run, METRICS, first_step=-2, last_step=5, limit=2)
    stats, total = await store.list_metrics(run, name_contains="l", after_name="", limit=10)
    every = (await store.read_metric_stats([run], metrics=None)).get(run, [])
    return {
        "points": [stored_points(points) for points in series],
        "page": ([stored_points(points) for points in part], next_step),
        "metrics": ([plain(one) for one in stats], total, [plain(one) for one in every]),
        "last step": await store.read_last_step(run),
        "summary": await store.read_summaries([run]),
        "receipts": await store.read_receipts(run),
    }


def plain(stats: MetricStats) -> tuple[Any, ...]:
    """Returns the stats with floats as their bytes."""
    return tuple(
        struct.pack("<d", value) if isinstance(value, float) else value for value in astuple(stats)
    )
