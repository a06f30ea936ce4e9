"""Stores of samples of machines: memory, and chDB in this process, keep what SystemReader promises."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.points import Batch, Journal, metric_id
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.clickhouse.system_read import ClickHouseSystemReader
from runyard_server.storage.clickhouse.system_retention import SystemConfig, SystemRetention
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.points import BlockEntry, PointReader, PointWriter
from runyard_server.storage.ports.system import SystemReader, SystemSeries, SystemSpan
from tests.stores import TEST_RUNS_UNIX_MS, ManualClock, new_run_key, table

NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class SystemStore:
    """Both sides of one store."""

    writer: PointWriter
    points: PointReader
    system: SystemReader


def sampled(
    run_key: RunKey,
    names: Sequence[str],
    rows: Sequence[tuple[int, Sequence[float]]],
    *,
    writer: int = 1,
    sequence: int = 1,
) -> Batch:
    """Returns a batch of (ms, values); the k-th row is record sequence + k."""
    heads = [
        (0, (TEST_RUNS_UNIX_MS + ms) * NS_PER_MS + 5, sequence + place)
        for place, (ms, _) in enumerate(rows)
    ]
    columns = [[values[place] for _, values in rows] for place in range(len(names))]
    return Batch(
        run_key,
        writer,
        sequence,
        sequence + len(rows) - 1,
        tuple(names),
        (table(range(len(names)), heads, columns),),
        journal=Journal.SYSTEM,
    )


async def insert(store: SystemStore, *batches: Batch) -> None:
    await store.writer.insert_block([BlockEntry(one) for one in batches])


class SystemStoreSuite:
    """What every store of samples promises."""

    async def test_samples_are_listed_and_read(self, store: SystemStore) -> None:
        """Metrics come by name with their writers, times and finite range; series by metric, each sample once."""
        run = new_run_key()
        one = sampled(run, ["system/b", "system/a"], [(0, (1.0, 5.0)), (10, (math.inf, 7.0))])
        await insert(store, one, sampled(run, ["system/b"], [(5, (3.0,))], writer=2))
        await insert(store, one)
        stats = await store.system.list_metrics(run)
        assert [(s.name, s.writers, s.low, s.high) for s in stats] == [
            ("system/a", (1,), 5.0, 7.0),
            ("system/b", (1, 2), 1.0, 3.0),
        ]
        assert (stats[1].first_time_unix_ms, stats[1].last_time_unix_ms) == (
            TEST_RUNS_UNIX_MS,
            TEST_RUNS_UNIX_MS + 10,
        )
        assert [s.mean for s in stats] == [6.0, 2.0]
        brief = await store.system.list_metrics(run, is_brief=True)
        without = ("last", "low", "high", "mean")
        values = [getattr(one, field) for one in brief for field in without]
        assert all(math.isnan(value) for value in values)
        known = dict.fromkeys(without, 0.0)
        assert [dataclasses.replace(one, **known) for one in brief] == [
            dataclasses.replace(one, **known) for one in stats
        ]
        assert stats[1].last == math.inf
        found = await store.system.read_series(
            run, ["system/b", "system/a"], SystemSpan(), width_ms=1, is_by_writer=False
        )
        assert [(s.metric, s.lasts.tolist(), s.counts.tolist()) for s in found] == [
            ("system/a", [5.0, 7.0], [1, 1]),
            ("system/b", [1.0, 3.0, math.inf], [1, 1, 1]),
        ]

    async def test_buckets_are_aligned(self, store: SystemStore) -> None:
        """A bucket holds the samples of one aligned span: their finite range and mean, and the last value whatever it is."""
        run = new_run_key()
        start = -TEST_RUNS_UNIX_MS % 8
        values = [
            (start + ms, (value,)) for ms, value in ((0, 1.0), (3, 3.0), (7, math.nan), (8, 9.0))
        ]
        await insert(store, sampled(run, ["system/x"], values))
        (series,) = await store.system.read_series(
            run, ["system/x"], SystemSpan(), width_ms=8, is_by_writer=False
        )
        assert (series.lows.tolist(), series.highs.tolist()) == ([1.0, 9.0], [3.0, 9.0])
        assert series.means.tolist() == [2.0, 9.0]
        assert math.isnan(series.lasts[0])
        assert series.counts.tolist() == [3, 1]
        assert series.times_unix_ms.tolist() == [
            TEST_RUNS_UNIX_MS + start,
            TEST_RUNS_UNIX_MS + start + 8,
        ]

    async def test_writers_apart_or_together(self, store: SystemStore) -> None:
        """By writer each has a series of its own; together a bucket spans all; only those wanted count."""
        run = new_run_key()
        for writer in (1, 2, 3):
            await insert(store, sampled(run, ["system/x"], [(0, (float(writer),))], writer=writer))
        wanted = SystemSpan(writers=(2, 3))
        apart = await store.system.read_series(
            run, ["system/x"], wanted, width_ms=1, is_by_writer=True
        )
        assert [(s.writer, s.lasts.tolist()) for s in apart] == [(2, [2.0]), (3, [3.0])]
        (whole,) = await store.system.read_series(
            run, ["system/x"], wanted, width_ms=1, is_by_writer=False
        )
        assert (whole.writer, whole.lows[0], whole.highs[0], whole.means[0]) == (0, 2.0, 3.0, 2.5)

    async def test_times_bound_what_is_read(self, store: SystemStore) -> None:
        """Samples from the first to the last time wanted count, both included; without any there is no extent."""
        run = new_run_key()
        await insert(store, sampled(run, ["system/x"], [(ms, (float(ms),)) for ms in range(10)]))
        first, last = TEST_RUNS_UNIX_MS + 3, TEST_RUNS_UNIX_MS + 6
        span = SystemSpan(first, last)
        assert await store.system.read_extent(run, ["system/x"], span) == (first, last)
        (series,) = await store.system.read_series(
            run, ["system/x"], span, width_ms=1, is_by_writer=False
        )
        assert series.lasts.tolist() == [3.0, 4.0, 5.0, 6.0]
        assert await store.system.read_extent(run, ["system/y"], SystemSpan()) is None
        assert await store.system.read_extent(new_run_key(), ["system/x"], span) is None

    async def test_names_are_counted(self, store: SystemStore) -> None:
        """The ids of a run's system metrics are told, each once, up to a limit; the run's own metrics have none of them."""
        run = new_run_key()
        await insert(store, sampled(run, ["system/x", "system/y"], [(0, (1.0, 2.0))]))
        await insert(store, sampled(run, ["system/x"], [(0, (1.0,))], writer=2))
        expected = {metric_id("system/x"), metric_id("system/y")}
        ids = await store.writer.read_metric_ids(run, limit=9, journal=Journal.SYSTEM)
        assert sorted(ids.tolist()) == sorted(expected)
        assert len(await store.writer.read_metric_ids(run, limit=1, journal=Journal.SYSTEM)) == 1
        assert len(await store.writer.read_metric_ids(run, limit=9)) == 0

    async def test_the_run_itself_knows_nothing_of_them(self, store: SystemStore) -> None:
        """Samples are no points of the run: neither its metrics, its last step nor its receipt tell of them."""
        run = new_run_key()
        await insert(store, sampled(run, ["system/x"], [(0, (1.0,))]))
        assert await store.points.list_metrics(run, name_contains="", after_name="", limit=9) == (
            [],
            0,
        )
        assert await store.points.read_last_step(run) is None
        assert await store.points.read_receipts(run) == []


class TestMemorySystem(SystemStoreSuite):
    """The reference."""

    @pytest.fixture
    def store(self) -> SystemStore:
        points = MemoryPoints()
        return SystemStore(points, points, points.system)


class TestEmbeddedClickHouseSystem(SystemStoreSuite):
    """chDB in this process."""

    @pytest.fixture
    def store(self, clickhouse: ClickHouse) -> SystemStore:
        return SystemStore(
            ClickHousePointWriter(clickhouse, clock=SystemClock()),
            ClickHousePointReader(clickhouse),
            ClickHouseSystemReader(clickhouse),
        )


async def test_memory_and_clickhouse_agree(clickhouse: ClickHouse) -> None:
    """Of drawn samples both stores make the same buckets, whatever the width."""
    chance = np.random.default_rng(3)
    run, memory = new_run_key(), MemoryPoints()
    writer = ClickHousePointWriter(clickhouse, clock=SystemClock())
    for number in range(1, 9):
        rows = [
            (int(ms), tuple(chance.choice([math.nan, math.inf, 1.5, -2.0, 0.0], 2)))
            for ms in chance.integers(0, 2_000, 20)
        ]
        one = sampled(
            run, ["system/x", "system/y"], rows, writer=number % 3 + 1, sequence=20 * number
        )
        for store in (memory, writer):
            await store.insert_block([BlockEntry(one)])
    for width_ms in (1, 64, 4_096):
        for is_by_writer in (False, True):
            found: list[list[SystemSeries]] = [
                await reader.read_series(
                    run,
                    ["system/y", "system/x"],
                    SystemSpan(),
                    width_ms=width_ms,
                    is_by_writer=is_by_writer,
                )
                for reader in (memory.system, ClickHouseSystemReader(clickhouse))
            ]
            assert len(found[0]) == len(found[1])
            for one_series, other in zip(*found, strict=True):
                for field in dataclasses.fields(SystemSeries):
                    expected, actual = getattr(one_series, field.name), getattr(other, field.name)
                    if isinstance(expected, np.ndarray):
                        np.testing.assert_allclose(actual, expected, rtol=1e-12)
                    else:
                        assert expected == actual


async def test_old_samples_go(clickhouse: ClickHouse) -> None:
    """Whole months and the older part of one go, in either order of rows; what is kept stays, and a further round finds nothing."""
    now = datetime(2020, 4, 14, 15, 30, tzinfo=UTC)
    first_kept = datetime(2020, 3, 15, tzinfo=UTC)
    moments = [
        first_kept - timedelta(days=400),
        first_kept - timedelta(days=20),
        first_kept - timedelta(milliseconds=1),
        first_kept,
        now,
    ]
    store = SystemStore(
        ClickHousePointWriter(clickhouse, clock=SystemClock()),
        ClickHousePointReader(clickhouse),
        ClickHouseSystemReader(clickhouse),
    )
    run = new_run_key()
    rows = [
        (round(moment.timestamp() * 1000) - TEST_RUNS_UNIX_MS, (float(place),))
        for place, moment in enumerate(moments)
    ]
    await insert(store, sampled(run, ["system/x"], rows))
    retention = SystemRetention(
        SystemConfig(keep_days=30),
        store=clickhouse,
        clock=ManualClock(unix_ns=round(now.timestamp()) * 10**9),
        lock=asyncio.Lock(),
    )
    assert await retention.run_round() >= 3
    (kept,) = await store.system.read_series(
        run, ["system/x"], SystemSpan(), width_ms=1, is_by_writer=False
    )
    assert kept.lasts.tolist() == [3.0, 4.0]
    assert await retention.run_round() == 0


async def test_samples_of_many_months_in_one_block(clickhouse: ClickHouse) -> None:
    """A clock that jumps about through decades keeps no block from being stored."""
    store = ClickHousePointWriter(clickhouse, clock=SystemClock())
    run = new_run_key()
    month_ms = 31 * 86_400_000
    rows = [(place * month_ms, (float(place),)) for place in range(300)]
    await store.insert_block([BlockEntry(sampled(run, ["system/x"], rows))])
    reader = ClickHouseSystemReader(clickhouse)
    assert await reader.read_extent(run, ["system/x"], SystemSpan()) == (
        TEST_RUNS_UNIX_MS,
        TEST_RUNS_UNIX_MS + 299 * month_ms,
    )


@pytest.mark.parametrize("days", [-1.0, math.nan, math.inf, 1e9])
def test_days_that_are_none(days: float) -> None:
    """A number of days that cannot be is refused before the server starts."""
    with pytest.raises(ValueError, match="keep_days"):
        SystemConfig(keep_days=days)
