"""Runs with a history of their own: whatever was rewound and forked, memory and chDB read the same points, bit by bit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.run import Cut, HistoryPart, RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.points import (
    BlockEntry,
    BucketColumns,
    PointReader,
    Scope,
    SeriesKey,
)
from tests.differential.test_points import METRICS, Story, plain, stories
from tests.stores import new_run_key, stored_points

near = st.integers(-5, 9)
cuts = st.builds(Cut, writer_max=st.integers(1, 3), last_step=near)
parts = st.builds(
    HistoryPart,
    run_key=st.integers(0, 1).map(RunKey),
    last_step=st.none() | near,
    writer_max=st.integers(0, 3),
    cuts=st.lists(cuts, max_size=2).map(tuple),
)


Mean = tuple[np.ndarray, np.ndarray]
"""Means, and how large the values are of which they are made."""


@st.composite
def scopes(draw: Any) -> Scope:
    """Returns a scope of run 0: its own part first, then perhaps run 1 as its ancestor, and again as an older one."""
    own = replace(draw(parts), run_key=RunKey(0))
    ancestors = tuple(
        replace(part, run_key=RunKey(1)) for part in draw(st.lists(parts, max_size=1))
    )
    writers = draw(st.lists(st.integers(1, 3), unique=True, max_size=2).map(tuple))
    return Scope((own, *ancestors), writers)


@settings(max_examples=40)
@given(stories(), scopes(), st.integers(2, 6))
def test_memory_and_clickhouse_read_the_same_history(
    clickhouse: ClickHouse, story: Story, scope: Scope, bucket_count_max: int
) -> None:
    """Points, pages, buckets, metrics, means and the last step of a rewound or forked run, or of some writers, are equal."""
    asyncio.run(compare(clickhouse, story, scope, bucket_count_max))


async def compare(
    clickhouse: ClickHouse, story: Story, scope: Scope, bucket_count_max: int
) -> None:
    runs = (new_run_key(), new_run_key())
    memory = MemoryPoints()
    writer = ClickHousePointWriter(clickhouse, clock=SystemClock())
    reader = ClickHousePointReader(clickhouse)
    batches = [replace(batch, run_key=runs[batch.run_key]) for batch in story.batches]
    for block in story.blocks:
        entries = [BlockEntry(batches[number]) for number in block]
        await memory.insert_block(entries)
        await writer.insert_block(entries)
    own = replace(
        scope, parts=tuple(replace(part, run_key=runs[part.run_key]) for part in scope.parts)
    )
    found = await everything(reader, runs[0], own, bucket_count_max)
    expected = await everything(memory, runs[0], own, bucket_count_max)
    assert_near(found.pop("means"), expected.pop("means"))
    assert found == expected


def assert_near(found: list[Mean], expected: list[Mean]) -> None:
    """The definition rounds means otherwise than SQL does: to a few units of the last place, at the size of the values."""
    for (one, scale), (other, _) in zip(found, expected, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            is_near = np.abs(one - other) <= scale * 2**-50 + 5e-324
        assert (is_near | (one == other) | (np.isnan(one) & np.isnan(other))).all(), (one, other)


async def everything(
    store: PointReader, run: RunKey, scope: Scope, bucket_count_max: int
) -> dict[str, Any]:
    """Returns all that the store reads of the run in that scope, as plain values."""
    scopes = {run: scope}
    series, _ = await store.read_series(
        run, METRICS, first_step=None, last_step=None, limit=1000, scopes=scopes
    )
    part, next_step = await store.read_series(
        run, METRICS, first_step=-2, last_step=5, limit=2, scopes=scopes
    )
    stats, total = await store.list_metrics(
        run, name_contains="l", after_name="", limit=10, scopes=scopes
    )
    every = await store.read_metric_stats([run], metrics=METRICS[:2], scopes=scopes)
    keys = [SeriesKey(run, metric) for metric in METRICS]
    buckets = await store.read_buckets(
        keys, first_step=None, last_step=7, bucket_count_max=bucket_count_max, scopes=scopes
    )
    means: list[Mean] = [
        (found.means, np.maximum(np.abs(found.lows), np.abs(found.highs)))
        for _, found in sorted(buckets.items(), key=lambda item: item[0].metric)
    ]
    for key, mean in (await store.read_means(keys, scopes=scopes)).items():
        values = (
            await store.read_series(
                run, [key.metric], first_step=None, last_step=None, limit=1000, scopes=scopes
            )
        )[0][0].values
        finite = np.abs(values[np.isfinite(values)])
        means.append((np.array([mean]), np.array([finite.max(initial=0.0)])))
    return {
        "points": [stored_points(points) for points in series],
        "page": ([stored_points(points) for points in part], next_step),
        "metrics": ([plain(one) for one in stats], total),
        "stats": [plain(one) for one in every.get(run, [])],
        "buckets": {key.metric: columns(found) for key, found in buckets.items()},
        "means": means,
        "last step": await store.read_last_step(run, scopes=scopes),
    }


def columns(buckets: BucketColumns) -> tuple[Any, ...]:
    """Returns the buckets as plain values, without means; of not-a-numbers only that they are."""
    names = [name for name in BucketColumns.__slots__ if name not in ("width", "is_raw", "means")]
    arrays = [np.asarray(getattr(buckets, name)) for name in names]
    return (
        buckets.width,
        buckets.is_raw,
        *(
            np.where(np.isnan(a), np.nan, a).tobytes() if a.dtype.kind == "f" else a.tolist()
            for a in arrays
        ),
    )
