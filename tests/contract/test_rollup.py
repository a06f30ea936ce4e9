"""Rollups: what is stored when, and that answers stay right through margins, restarts and clocks set back."""

from __future__ import annotations

import time

import pytest

from runyard_server.domain.points import metric_id
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.clickhouse.rollup import RollupConfig, RollupTask, build_rollup
from runyard_server.storage.ports.points import BlockEntry, SeriesKey
from tests.stores import ManualClock, batch, new_run_key

MARGIN_S = 100.0
CONFIG = RollupConfig(
    margin_s=MARGIN_S, row_count_min=100, growth_min=0.5, points_per_bucket=8, points_per_bucket_min=2,
    series_per_round_max=10_000,
)  # fmt: skip


class Yard:
    """A store, a writer and a rollup task that share a clock."""

    def __init__(self, store: ClickHouse) -> None:
        self.store = store
        self.clock = ManualClock(unix_ns=time.time_ns() + 3_600 * 10**9)
        self.writer = ClickHousePointWriter(store, clock=self.clock)
        self.reader = ClickHousePointReader(store)
        self.sequence = 0

    def task(self) -> RollupTask:
        return build_rollup(CONFIG, store=self.store, clock=self.clock)

    async def roll_up(self, run: RunKey) -> bool:
        """Does for one run what a round does for all that the index of the table shows to be large."""
        covered_block = self.clock.unix_ns - round(MARGIN_S * 1e9)
        return await self.task().roll_up((int(run), metric_id("x")), covered_block)

    async def write(self, run: RunKey, steps: range, value: float = 1.0) -> None:
        points = {"x": [(step, value) for step in steps]}
        one = batch(run, points, first_sequence=self.sequence + 1)
        self.sequence += len(steps)
        await self.writer.insert_block([BlockEntry(one)])

    async def rollup_of(self, run: RunKey) -> tuple[int, int] | None:
        """Returns the end of the stored steps and how many rows were rolled up."""
        table = await self.store.query_arrow(
            f"SELECT bitShiftLeft(end_bucket, shift) AS end_step, row_count FROM rollups FINAL WHERE run = {run}"
        )
        rows = table.to_pylist()
        return (rows[0]["end_step"], rows[0]["row_count"]) if rows else None

    async def highs(self, run: RunKey) -> list[float]:
        key = SeriesKey(run, "x")
        found = await self.reader.read_buckets(
            [key], first_step=None, last_step=None, bucket_count_max=8
        )
        return list(found[key].highs.tolist())

    async def forge(self, run: RunKey, high: float) -> None:
        """Changes what is stored in buckets, so that a test sees whether a read took them."""
        await self.store.command(
            "INSERT INTO buckets SELECT run, metric, shift, bucket, version, classes, counts, lows,"
            f" arrayMap(x -> {high}, highs), first_steps, last_steps, last_writers, lasts, last_times, high_sums, low_sums"
            f" FROM buckets FINAL WHERE run = {run} AND metric = {metric_id('x')}"
        )


@pytest.fixture
def yard(clickhouse: ClickHouse) -> Yard:
    return Yard(clickhouse)


async def test_nothing_is_rolled_up_before_it_is_settled(yard: Yard) -> None:
    """Blocks younger than the margin may not be all visible yet, so nothing claims to have seen them."""
    run = new_run_key()
    await yard.write(run, range(200))
    assert not await yard.roll_up(run)
    assert await yard.rollup_of(run) is None
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    assert await yard.rollup_of(run) == (200, 200)


async def test_small_series_are_left_alone(yard: Yard) -> None:
    """Below row_count_min a read of the points is fast enough."""
    run = new_run_key()
    await yard.write(run, range(99))
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    assert await yard.rollup_of(run) is None


async def test_reads_take_stored_buckets_and_renew_touched_ones(yard: Yard) -> None:
    """Stored buckets answer, except where later points came: there, and only there, the points do."""
    run = new_run_key()
    await yard.write(run, range(256))
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    await yard.forge(run, 9.0)
    assert await yard.highs(run) == [9.0] * 8
    # Bucket 0 of 8 (width 32) has four stored ones of width 8; the touched one is read anew, the forged others are not.
    await yard.write(run, range(1), value=20.0)
    assert await yard.highs(run) == [20.0] + [9.0] * 7
    await yard.write(run, range(256, 257), value=3.0)
    assert (await yard.highs(run))[-1] == 3.0


async def test_growth_renews_and_extends(yard: Yard) -> None:
    """A series is rolled up again when it has grown by its share: touched buckets anew, further ones added."""
    run = new_run_key()
    await yard.write(run, range(256))
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    await yard.write(run, range(50), value=5.0)
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    assert await yard.rollup_of(run) == (256, 256), "grown by less than half"
    await yard.write(run, range(256, 512))
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    rolled = await yard.rollup_of(run)
    assert rolled is not None and rolled[0] == 512
    await yard.forge(run, 9.0)
    assert await yard.highs(run) == [9.0] * 8, "all of it is stored"


async def test_a_round_finds_what_is_large(yard: Yard) -> None:
    """A round finds large series by the table's index; a further one has nothing to do, after a restart too."""
    run = new_run_key()
    for start in range(0, 60_000, 20_000):
        await yard.write(run, range(start, start + 20_000))
    config = RollupConfig(margin_s=MARGIN_S, row_count_min=20_000)
    task = build_rollup(config, store=yard.store, clock=yard.clock)
    await task.run_round()
    assert await yard.rollup_of(run) is None, "not settled yet"
    yard.clock.advance(MARGIN_S + 1)
    assert await task.run_round() >= 1
    assert await yard.rollup_of(run) == (60_000 // 1_024 * 1_024 + 1_024, 60_000)
    assert await task.run_round() == 0
    again = build_rollup(config, store=yard.store, clock=yard.clock)
    assert await again.run_round() == 0


async def test_a_clock_set_back_hides_no_point(yard: Yard) -> None:
    """After the clock jumped back, blocks carry times that a rollup claims to have seen: the claim is withdrawn."""
    run = new_run_key()
    await yard.write(run, range(256))
    yard.clock.advance(MARGIN_S + 1)
    await yard.roll_up(run)
    yard.clock.advance(-3_000)
    await yard.task().run_round()
    later = Yard(yard.store)
    later.clock, later.sequence = yard.clock, yard.sequence
    later.writer = ClickHousePointWriter(yard.store, clock=yard.clock)
    await later.write(run, range(1), value=20.0)
    assert (await yard.highs(run))[0] == 20.0
