"""The suite of PointWriter and PointReader: each case says which sentence of storage/ports/points.py it checks.

A class that inherits it gives the fixture `store`; see test_stores.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from runyard_server.domain.points import Batch, SummaryChange, metric_ids
from runyard_server.storage.ports.points import (
    BlockEntry,
    PointReader,
    PointWriter,
    ReceiptRange,
    SeriesKey,
    SummaryEntry,
)
from tests.stores import (
    TEST_RUNS_UNIX_MS,
    batch,
    bits_of,
    float_of,
    new_run_key,
    read_all,
    read_values,
    table,
)

SPECIAL_BITS = (
    0x7FF8_0000_0000_0000,  # NaN
    0x7FF8_DEAD_BEEF_0001,  # NaN with a payload
    0xFFF8_0000_0000_0000,  # negative NaN
    bits_of(math.inf),
    bits_of(-math.inf),
    bits_of(-0.0),
    bits_of(0.0),
    1,  # smallest subnormal
    bits_of(1.7976931348623157e308),
)


class PointStore(PointWriter, PointReader, Protocol):
    """Both sides of the store."""


async def insert(store: PointWriter, *batches: Batch) -> None:
    """Inserts one block."""
    await store.insert_block([BlockEntry(one) for one in batches])


class PointStoreSuite:
    """What every store of points promises."""

    async def test_what_was_inserted_is_read(self, store: PointStore) -> None:
        """When it returns, all MUST be visible to PointReader, in (step, writer) order."""
        run = new_run_key()
        one = batch(run, {"loss": [(3, 0.3), (1, 0.1)], "acc": [(1, 0.9)]})
        await insert(store, one, batch(run, {"loss": [(1, 7.0)]}, writer=2))
        found = await read_all(store, run, ["loss", "acc", "absent"])
        assert [(point.step, point.writer, float_of(point.bits)) for point in found["loss"]] == [
            (1, 1, 0.1),
            (1, 2, 7.0),
            (3, 1, 0.3),
        ]
        assert [(p.step, float_of(p.bits)) for p in found["acc"]] == [(1, 0.9)]
        assert found["absent"] == []

    async def test_values_come_back_bit_by_bit(self, store: PointStore) -> None:
        """Values MUST come back bit by bit: NaN payloads, infinities, -0.0, subnormals."""
        run = new_run_key()
        points = [(step, float_of(bits)) for step, bits in enumerate(SPECIAL_BITS)]
        await insert(store, batch(run, {"x": points}))
        found = await read_all(store, run, ["x"])
        assert list(SPECIAL_BITS) == [point.bits for point in found["x"]]

    async def test_times_are_kept_to_the_millisecond(self, store: PointStore) -> None:
        """Times are stored to the millisecond, rounded down, before 1970 too."""
        run = new_run_key()
        rows = [(0, 1_999_999, 1), (1, -1, 2)]
        one = Batch(run, 1, 1, 2, ("x",), (table([0], rows, [[0.0, 1.0]]),))
        await insert(store, one)
        found = await read_all(store, run, ["x"])
        assert [point.time_unix_ns for point in found["x"]] == [1_000_000, -1_000_000]

    async def test_times_at_the_ends_do_not_wrap(self, store: PointStore) -> None:
        """The earliest times, which have no millisecond below them in 64 bits of ns, become the earliest kept; none wraps."""
        run = new_run_key()
        lowest, highest = -(2**63), 2**63 - 1
        times = [lowest, lowest + 775_807, lowest + 775_808, lowest + 1_775_808, highest]
        rows = [(step, time, step + 1) for step, time in enumerate(times)]
        one = Batch(run, 1, 1, len(rows), ("x",), (table([0], rows, [[1.0] * len(rows)]),))
        await insert(store, one)
        kept = [lowest + 775_808] * 3 + [lowest + 1_775_808, highest // 10**6 * 10**6]
        found = await read_all(store, run, ["x"])
        assert kept == [point.time_unix_ns for point in found["x"]]
        key = SeriesKey(run, "x")
        buckets = await store.read_buckets(
            [key], first_step=None, last_step=None, bucket_count_max=8
        )
        assert kept == buckets[key].times_unix_ns.tolist()
        (stats,), _ = await store.list_metrics(run, name_contains="", after_name="", limit=1)
        assert stats.last_time_unix_ns == kept[-1]

    async def test_a_repeat_in_another_grouping_is_read_once(self, store: PointStore) -> None:
        """The caller repeats the same block, or its batches in other blocks, and each point MUST be read once."""
        run, other = new_run_key(), new_run_key()
        first = batch(run, {"x": [(0, 0.0), (1, 1.0)]}, first_sequence=1)
        second = batch(run, {"x": [(2, 2.0)], "y": [(2, 5.0)]}, first_sequence=3)
        neighbour = batch(other, {"x": [(0, 9.0)]})
        await insert(store, first, second)
        await insert(store, second, neighbour)
        await insert(store, neighbour, first)
        whole = batch(run, {"x": [(0, 0.0), (1, 1.0), (2, 2.0)]}, first_sequence=1)
        await insert(store, whole)
        assert await read_values(store, run, "x") == [(0, 0.0), (1, 1.0), (2, 2.0)]
        assert await read_values(store, run, "y") == [(2, 5.0)]
        assert await read_values(store, other, "x") == [(0, 9.0)]

    async def test_the_highest_sequence_wins_within_a_batch(self, store: PointStore) -> None:
        """Of points with one (run, metric, step, writer) the one with the highest sequence MUST win, within a batch too."""
        run = new_run_key()
        await insert(store, batch(run, {"x": [(5, 1.0), (4, 2.0), (5, 3.0), (4, 4.0)]}))
        assert await read_values(store, run, "x") == [(4, 4.0), (5, 3.0)]

    async def test_the_highest_sequence_wins_over_blocks(self, store: PointStore) -> None:
        """The highest sequence wins, whichever block comes last."""
        run = new_run_key()
        early = batch(run, {"x": [(1, 1.0)]}, first_sequence=1)
        late = batch(run, {"x": [(1, 2.0)]}, first_sequence=2)
        await insert(store, late)
        await insert(store, early)
        assert await read_values(store, run, "x") == [(1, 2.0)]
        await insert(store, early, late)
        assert await read_values(store, run, "x") == [(1, 2.0)]

    async def test_writers_do_not_replace_each_other(self, store: PointStore) -> None:
        """Points of two writers at one step are two points."""
        run = new_run_key()
        batches = [batch(run, {"x": [(0, float(w)), (1, w + 0.5)]}, writer=w) for w in (3, 1, 2)]
        await insert(store, *batches)
        expected = [(0, 1.0), (0, 2.0), (0, 3.0), (1, 1.5), (1, 2.5), (1, 3.5)]
        assert expected == await read_values(store, run, "x")

    async def test_an_extreme_step_is_a_step(self, store: PointStore) -> None:
        """Steps are all 64-bit integers."""
        run = new_run_key()
        steps = [-(2**63), -1, 0, 2**63 - 1]
        await insert(store, batch(run, {"x": [(step, 1.0) for step in steps]}))
        assert steps == [step for step, _ in await read_values(store, run, "x")]

    async def test_a_page_is_complete_below_its_next_step(self, store: PointStore) -> None:
        """If any is cut, all MUST be complete for all steps below `next_step`, and hold nothing from it on."""
        run = new_run_key()
        dense = [(step, float(step)) for step in range(10)]
        await insert(store, batch(run, {"dense": dense, "sparse": [(2, 2.0), (7, 7.0)]}))
        pages, next_step = [], None
        while True:
            page, next_step = await store.read_series(
                run, ["dense", "sparse"], first_step=next_step, last_step=8, limit=4
            )
            pages.append([series.steps.tolist() for series in page])
            assert len(pages) < 10
            if next_step is None:
                break
        assert list(range(9)) == [step for page in pages for step in page[0]]
        assert [step for page in pages for step in page[1]] == [2, 7]
        assert all(len(page[0]) <= 4 for page in pages)

    async def test_catalogue_follows_the_points(self, store: PointStore) -> None:
        """Metrics come by name in byte order, with first and last value and the range of finite values ever logged."""
        run = new_run_key()
        await insert(store, batch(run, {"b": [(5, 2.0), (1, math.nan), (9, -math.inf)]}))
        await insert(
            store,
            batch(run, {"b": [(3, -4.0)], "B": [(0, 1.0)], "ä": [(0, 1.0)]}, first_sequence=4),
        )
        stats, total = await store.list_metrics(run, name_contains="", after_name="", limit=10)
        assert ([one.name for one in stats], total) == (["B", "b", "ä"], 3)
        b = stats[1]
        assert (b.first_step, b.last_step, b.low, b.high) == (1, 9, -4.0, 2.0)
        assert math.isnan(b.first)
        assert -math.inf == b.last
        assert b.last_time_unix_ns == TEST_RUNS_UNIX_MS * 1_000_000
        page, total = await store.list_metrics(run, name_contains="B", after_name="B", limit=1)
        assert ([one.name for one in page], total) == (["b"], 2)

    async def test_catalogue_takes_the_value_that_won(self, store: PointStore) -> None:
        """First and last are the points at the smallest and largest step; of one step the highest sequence, in any order."""
        run = new_run_key()
        await insert(store, batch(run, {"x": [(1, 20.0), (8, 80.0)]}, first_sequence=3))
        await insert(store, batch(run, {"x": [(1, 10.0), (8, 70.0)]}, first_sequence=1))
        (stats,) = (await store.read_metric_stats([run], metrics=["x", "absent"]))[run]
        assert (stats.first, stats.last) == (20.0, 80.0)
        assert (stats.low, stats.high) == (10.0, 80.0)
        assert await store.read_last_step(run) == 8

    async def test_a_series_without_finite_values_has_no_range(self, store: PointStore) -> None:
        """Low and high are NaN if no finite value was ever logged."""
        run = new_run_key()
        await insert(store, batch(run, {"x": [(0, math.nan), (1, math.inf)]}))
        (stats,) = (await store.read_metric_stats([run], metrics=None))[run]
        assert math.isnan(stats.low)
        assert math.isnan(stats.high)
        assert math.inf == stats.last

    async def test_metric_ids_are_those_of_the_run(self, store: PointStore) -> None:
        """Returns the ids of at most `limit` metrics of the run, each once."""
        run = new_run_key()
        await insert(store, batch(run, {"a": [(0, 0.0)], "b": [(0, 0.0)]}))
        await insert(store, batch(run, {"b": [(1, 0.0)], "c": [(1, 0.0)]}, first_sequence=2))
        expected = set(metric_ids(["a", "b", "c"]).tolist())
        assert expected == set((await store.read_metric_ids(run, limit=10)).tolist())
        assert len(await store.read_metric_ids(run, limit=2)) == 2
        assert len(await store.read_metric_ids(new_run_key(), limit=10)) == 0

    async def test_receipts_are_the_acknowledged_ranges(self, store: PointStore) -> None:
        """Returns each acknowledged range once, by (writer, first_sequence), with what was accepted and refused."""
        run = new_run_key()
        second = batch(run, {"x": [(3, 1.0)]}, first_sequence=3, last_sequence=9)
        first = batch(run, {"x": [(0, 1.0), (1, 1.0)]})
        empty = batch(run, {}, writer=2, first_sequence=1, last_sequence=4)
        await store.insert_block([BlockEntry(second, 5), BlockEntry(first), BlockEntry(empty)])
        await store.insert_block([BlockEntry(second, 5)])
        expected = [
            ReceiptRange(1, 1, 2, 2, 0),
            ReceiptRange(1, 3, 9, 1, 5),
            ReceiptRange(2, 1, 4, 0, 0),
        ]
        assert expected == await store.read_receipts(run)

    async def test_the_last_summary_change_wins(self, store: PointStore) -> None:
        """Of one key the change with the highest (writer, sequence) is read, whatever came last; removed ones are left out."""
        run = new_run_key()
        changes = [
            SummaryChange(2, "best", "1"),
            SummaryChange(3, "best", "2"),
            SummaryChange(3, "best", '{"$float":"NaN"}'),
            SummaryChange(2, "gone", '"x"'),
            SummaryChange(4, "gone", ""),
            SummaryChange(2, "ä.b", '"ü"'),
        ]
        late = batch(run, {}, first_sequence=1, last_sequence=4, changes=changes)
        old = batch(
            run, {}, first_sequence=1, last_sequence=1, changes=[SummaryChange(1, "best", "0")]
        )
        await insert(store, late)
        await insert(store, old)
        await insert(store, old, late)
        expected = [SummaryEntry("best", '{"$float":"NaN"}'), SummaryEntry("ä.b", '"ü"')]
        assert {run: expected} == await store.read_summaries([run, new_run_key()])

    async def test_an_empty_block_stores_nothing(self, store: PointStore) -> None:
        """A block of no batches, or of batches without points, is fine."""
        run = new_run_key()
        await store.insert_block([])
        await insert(store, batch(run, {}))
        assert await store.read_receipts(new_run_key()) == []
        assert await store.read_last_step(run) is None
        assert len(await store.read_receipts(run)) == 1

    async def test_many_runs_share_a_block(self, store: PointStore) -> None:
        """A block holds batches of many runs, also of runs created in different months."""
        runs = [new_run_key() for _ in range(5)]
        runs += [type(run)(run - (90 * 86_400_000 << 22)) for run in runs]
        await insert(store, *(batch(run, {"x": [(0, float(n))]}) for n, run in enumerate(runs)))
        found = [await read_values(store, run, "x") for run in runs]
        assert [[(0, float(n))] for n in range(10)] == found

    async def test_columns_have_the_promised_types(self, store: PointStore) -> None:
        """Columns are of one length and of the types that the port names."""
        run = new_run_key()
        await insert(store, batch(run, {"x": [(0, 1.0)]}))
        (series, none), _ = await store.read_series(
            run, ["x", "none"], first_step=None, last_step=None, limit=5
        )
        for points in (series, none):
            columns: Sequence[np.dtype[np.generic]] = [
                points.steps.dtype, points.times_unix_ns.dtype, points.values.dtype, points.writers.dtype,
            ]  # fmt: skip
            assert [np.int64, np.int64, np.float64, np.uint64] == columns
