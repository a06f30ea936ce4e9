"""Receipts joined in the store add up to what all of them add up to."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_server.domain.run import RunKey
from runyard_server.query.receipts import add_up
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.ports.points import ReceiptRange
from tests.stores import new_run_key


def insert(store: ClickHouse, run: RunKey, ranges: list[ReceiptRange]) -> None:
    table = pa.table(
        {
            "run": np.full(len(ranges), run, np.uint64),
            "writer": np.array([r.writer for r in ranges], np.uint32),
            "first_sequence": np.array([r.first_sequence for r in ranges], np.uint64),
            "last_sequence": np.array([r.last_sequence for r in ranges], np.uint64),
            "points_accepted": np.array([r.points_accepted for r in ranges], np.uint64),
            "points_rejected": np.array([r.points_rejected for r in ranges], np.uint64),
        }
    )
    asyncio.run(store.insert_arrow("receipts", table))


def make(writer: int, first: int, length: int) -> ReceiptRange:
    """Returns a range whose points lie unevenly over its records."""
    records = range(first, first + length)
    return ReceiptRange(writer, first, first + length - 1, sum(s % 5 for s in records), length % 2)


RANGES = st.lists(
    st.builds(make, st.integers(0, 1), st.integers(1, 40), st.integers(1, 6)),
    min_size=1,
    max_size=40,
    unique=True,
)


@settings(max_examples=40)
@given(ranges=RANGES, in_one=st.booleans())
def test_joined_receipts_say_the_same(
    clickhouse: ClickHouse, ranges: list[ReceiptRange], in_one: bool
) -> None:
    """However ranges adjoin and overlap, joining them changes no receipt."""
    run = new_run_key()
    for part in [ranges] if in_one else [ranges[::2], ranges[1::2]]:
        if part:
            insert(clickhouse, run, part)
    plain = ClickHousePointReader(clickhouse)
    joining = ClickHousePointReader(clickhouse, receipts_max=0)
    assert sorted(ranges, key=str) == sorted(asyncio.run(plain.read_receipts(run)), key=str)
    assert add_up(ranges) == add_up(asyncio.run(joining.read_receipts(run)))


def test_a_month_of_receipts_is_a_few_rows(clickhouse: ClickHouse) -> None:
    """Half a million receipts without gaps come as one range, within a second or two."""
    run, count = new_run_key(), 500_000
    first = np.arange(count, dtype=np.uint64) * 10 + 1
    table = pa.table(
        {
            "run": np.full(count, run, np.uint64),
            "writer": np.ones(count, np.uint32),
            "first_sequence": first,
            "last_sequence": first + 9,
            "points_accepted": np.full(count, 3, np.uint64),
            "points_rejected": np.zeros(count, np.uint64),
        }
    )
    asyncio.run(clickhouse.insert_arrow("receipts", table))
    started = time.perf_counter()
    found = asyncio.run(ClickHousePointReader(clickhouse).read_receipts(run))
    assert found == [ReceiptRange(1, 1, 10 * count, 3 * count, 0)]
    assert time.perf_counter() - started < 10
