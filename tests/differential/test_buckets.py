"""Buckets three ways: by their definition in memory, by SQL from points, by SQL from stored buckets. All must agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_server.domain.points import metric_id
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.rollup import RollupConfig, build_rollup
from runyard_server.storage.memory.buckets import make_buckets, mean_of_finite
from runyard_server.storage.ports.points import BucketColumns, SeriesKey, SeriesPoints
from tests.stores import ManualClock, new_run_key

EXACT = (
    "first_steps", "last_steps", "times_unix_ns", "lows", "highs", "lasts", "counts", "nan_counts",
    "positive_infinity_counts", "negative_infinity_counts",
)  # fmt: skip
METRIC = "loss"


@dataclass(frozen=True)
class Row:
    """One stored row of `points`."""

    step: int
    writer: int
    value: float
    sequence: int


class Yard:
    """The embedded store of this process; each example has runs of its own."""

    def __init__(self, store: ClickHouse) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = store
        self.reader = ClickHousePointReader(store)
        self.clock = ManualClock()

    def insert(self, run: RunKey, rows: list[Row]) -> None:
        """Inserts the rows as one block of its own time."""
        self.clock.unix_ns += 1
        # As the writer does: ordered, and of one key the highest sequence alone.
        best = {(r.step, r.writer): r for r in sorted(rows, key=lambda r: r.sequence)}
        kept = [best[key] for key in sorted(best)]
        count = len(kept)
        table = pa.table(
            {
                "run": np.full(count, run, np.uint64),
                "metric": np.full(count, metric_id(METRIC), np.uint64),
                "step": np.array([r.step for r in kept], np.int64),
                "writer": np.array([r.writer for r in kept], np.uint32),
                "time": np.array([r.sequence * 7 for r in kept], np.int64),
                "value": np.array([r.value for r in kept], np.float64),
                "sequence": np.array([r.sequence for r in kept], np.uint64),
                "block": np.full(count, self.clock.unix_ns, np.uint64),
            }
        )
        self.loop.run_until_complete(self.store.insert_arrow("points", table))

    def catalogue(self, run: RunKey) -> None:
        """Stores what the writer keeps of a series beside its points."""
        insert = self.store.command(
            "INSERT INTO series SELECT run, metric, 'loss', min(step), max(step), min(value), max(value),"
            " min((step, writer, 0, time, value)), max((step, writer, 0, time, value))"
            f" FROM points WHERE run = {run} GROUP BY run, metric"
        )
        self.loop.run_until_complete(insert)

    def roll_up(self, run: RunKey) -> bool:
        """Rolls up the run's series if it grew at all, with everything before now as settled."""
        config = RollupConfig(
            row_count_min=1, growth_min=0, points_per_bucket=4, points_per_bucket_min=2, rows_per_insert=16,
        )  # fmt: skip
        task = build_rollup(config, store=self.store, clock=self.clock)
        series = (int(run), metric_id(METRIC))
        return self.loop.run_until_complete(task.roll_up(series, self.clock.unix_ns))

    def read(
        self, run: RunKey, count_max: int, first: int | None = None, last: int | None = None
    ) -> BucketColumns | None:
        key = SeriesKey(run, METRIC)
        found = self.loop.run_until_complete(
            self.reader.read_buckets(
                [key], first_step=first, last_step=last, bucket_count_max=count_max
            )
        )
        return found.get(key)

    def mean(self, run: RunKey) -> float:
        key = SeriesKey(run, METRIC)
        return self.loop.run_until_complete(self.reader.read_means([key]))[key]


@pytest.fixture(scope="module")
def yard(clickhouse: ClickHouse) -> Iterator[Yard]:
    one = Yard(clickhouse)
    yield one
    one.loop.close()


VALUES = st.one_of(
    st.floats(width=64),
    st.floats(-1, 1),
    st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 0.1]),
)
STEPS = st.one_of(st.integers(-40, 400), st.integers(-(2**63), 2**63 - 1))
NEAR_STEPS = st.integers(-40, 400)


def blocks(steps: st.SearchStrategy[int]) -> st.SearchStrategy[list[list[Row]]]:
    row = st.builds(Row, steps, st.integers(0, 2), VALUES, st.integers(1, 1000))
    return st.lists(st.lists(row, min_size=1, max_size=60), min_size=1, max_size=5)


def model(rows: list[Row], first: int | None = None, last: int | None = None) -> SeriesPoints:
    """Returns what must be readable: of one (step, writer) the highest sequence."""
    best: dict[tuple[int, int], Row] = {}
    for row in rows:
        key = (row.step, row.writer)
        if key not in best or row.sequence >= best[key].sequence:
            best[key] = row
    kept = [
        best[key]
        for key in sorted(best)
        if (first is None or key[0] >= first) and (last is None or key[0] <= last)
    ]
    return SeriesPoints(
        steps=np.array([r.step for r in kept], np.int64),
        times_unix_ns=np.array([r.sequence * 7_000_000 for r in kept], np.int64),
        values=np.array([r.value for r in kept], np.float64),
        writers=np.array([r.writer for r in kept], np.uint64),
    )


def assert_same(expected: BucketColumns | None, found: BucketColumns | None) -> None:
    """Exact in all but means, which the definition rounds otherwise: these to a few units of the last place."""
    assert (expected is None) == (found is None)
    if expected is None or found is None:
        return
    assert (expected.width, expected.is_raw) == (found.width, found.is_raw)
    for name in EXACT:
        assert_bits(getattr(expected, name), getattr(found, name), name)
    scale = np.maximum(np.abs(expected.lows), np.abs(expected.highs))
    with np.errstate(over="ignore"):
        is_near = np.abs(expected.means - found.means) <= scale * 2**-50 + 5e-324
    assert (is_near | (np.isnan(expected.means) & np.isnan(found.means))).all()


def assert_identical(expected: BucketColumns | None, found: BucketColumns | None) -> None:
    """Bit by bit, means too."""
    assert (expected is None) == (found is None)
    if expected is None or found is None:
        return
    assert (expected.width, expected.is_raw) == (found.width, found.is_raw)
    for name in (*EXACT, "means"):
        assert_bits(getattr(expected, name), getattr(found, name), name)


def assert_bits(expected: np.ndarray, found: np.ndarray, name: str) -> None:
    if name in ("lows", "highs", "means"):
        np.testing.assert_array_equal(expected, found, err_msg=name)
        return
    assert expected.dtype.itemsize == found.dtype.itemsize == 8, name
    assert expected.view(np.int64).tolist() == found.view(np.int64).tolist(), name


def unique_sequences(parts: list[list[Row]]) -> list[list[Row]]:
    """Returns the rows with sequences of their own: of one record two different values cannot be."""
    number = 0
    result = []
    for part in parts:
        renumbered = []
        for row in part:
            number += 1
            # Later blocks may bring earlier records: the low bits come from the drawn sequence.
            renumbered.append(Row(row.step, row.writer, row.value, row.sequence * 1000 + number))
        result.append(renumbered)
    return result


@settings(max_examples=30)
@given(parts=blocks(STEPS), count_max=st.integers(2, 40), repeat=st.booleans())
def test_sql_agrees_with_the_definition(
    yard: Yard, parts: list[list[Row]], count_max: int, repeat: bool
) -> None:
    """SQL gives the buckets of the definition for any points in any blocks, repeated and superseded ones included."""
    parts = unique_sequences(parts)
    run = new_run_key()
    for part in parts:
        yard.insert(run, part)
    if repeat:
        yard.insert(run, [row for part in reversed(parts) for row in part])
    points = model([row for part in parts for row in part])
    found = yard.read(run, count_max)
    assert_same(make_buckets(points, bucket_count_max=count_max), found)
    mean = mean_of_finite(points.values)
    if not np.isnan(mean):
        finite = points.values[np.isfinite(points.values)]
        assert abs(yard.mean(run) - mean) <= np.abs(finite).max() * 2**-50 + 5e-324


@settings(max_examples=30)
@given(
    parts=blocks(NEAR_STEPS),
    roll_after=st.sets(st.integers(0, 4)),
    count_max=st.integers(2, 24),
    catalogue_after=st.none() | st.integers(0, 4),
    first=st.none() | NEAR_STEPS,
    last=st.none() | NEAR_STEPS,
)
def test_stored_buckets_change_no_answer(
    yard: Yard,
    parts: list[list[Row]],
    roll_after: set[int],
    count_max: int,
    catalogue_after: int | None,
    first: int | None,
    last: int | None,
) -> None:
    """A read is the same, bit by bit, whether buckets are stored, old or missing: late, repeated, superseded points too."""
    parts = unique_sequences(parts)
    rolled, plain = new_run_key(), new_run_key()
    rows: list[Row] = []
    for number, part in enumerate(parts):
        yard.insert(rolled, part)
        rows += part
        if number in roll_after:
            yard.roll_up(rolled)
        if number == catalogue_after:
            yard.catalogue(rolled)
    yard.insert(plain, rows)
    expected = yard.read(plain, count_max, first, last)
    points = model(rows, first, last)
    if len(points.steps):
        assert_same(make_buckets(points, bucket_count_max=count_max), expected)
    assert_identical(expected, yard.read(rolled, count_max, first, last))
    for count in (2, 5):
        assert_identical(yard.read(plain, count), yard.read(rolled, count))
    np.testing.assert_equal(yard.mean(plain), yard.mean(rolled))
