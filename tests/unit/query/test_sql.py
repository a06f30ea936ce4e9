"""The SQL of reads and rollups, as files: a change of SQL is seen in review.

After a change on purpose: RUNYARD_TEST_WRITE_SQL=1 pytest tests/unit/query/test_sql.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runyard_server.storage.clickhouse import points_read_sql as sql
from runyard_server.storage.clickhouse import rollup_sql
from runyard_server.storage.clickhouse.points_read_receipts_sql import (
    joined_receipts_sql,
    receipts_sql,
)
from runyard_server.storage.clickhouse.points_read_sql import Rollup, Source, Span

ONE, MANY = ((7, 11),), ((7, 11), (8, 11))
ROLLUP = Rollup(shift=10, end_bucket=9765, covered_block=1_790_000_000_000_000_000, row_count=10**7)
MIXED = Source(
    ((7, 12),),
    (Span(100, 1024), Span(9_999_360, None)),
    stored_shift=10,
    stored=(Span(1, 5), Span(6, 9765)),
)
STATEMENTS = {
    "look_at_series": sql.looks_sql(MANY, Span(0, 10_000)),
    "known_steps": sql.known_steps_sql(MANY),
    "rollups_of_series": sql.rollups_sql(MANY),
    "points_of_two_series": sql.points_sql(MANY, Span(None, 500), limit=10_001),
    "points_of_many_series": sql.points_sql([(7, m) for m in range(40)], Span(), limit=10),
    "points_without_limit": sql.points_sql(ONE, Span(5, 6), limit=None),
    "extents_of_rolled_up_series": sql.ranges_sql([MIXED]),
    "touched_buckets": sql.touched_sql([((7, 12), ROLLUP, Span(1024, 9_999_360))]),
    "buckets": sql.partials_sql([(3, Source(MANY, (Span(),))), (13, MIXED)]),
    "receipts": receipts_sql(7, limit=5_001),
    "receipts_joined": joined_receipts_sql(7),
    "rollup_candidates": rollup_sql.candidates_sql(rows_min=65_536, growth_min=0.05, limit=256),
    "rollup_of_series": rollup_sql.rollup_sql(ONE[0]),
    "rollup_settled": rollup_sql.settled_sql(ONE[0], covered_block=ROLLUP.covered_block),
    "rollup_insert_buckets": rollup_sql.insert_buckets_sql(
        ONE[0], [Span(0, 2_048)], shift=10, version=3
    ),
    "rollup_insert": rollup_sql.insert_rollup_sql(ONE[0], ROLLUP, version=3),
    "rollup_withdraw": rollup_sql.withdraw_sql(now=5, covered_block=4, limit=256),
}
FOLDER = Path(__file__).parent / "sql"


@pytest.mark.parametrize("name", STATEMENTS)
def test_sql_is_as_reviewed(name: str) -> None:
    """The statement is, to the letter, the one in the file."""
    file = FOLDER / f"{name}.sql"
    text = STATEMENTS[name].strip() + "\n"
    if os.environ.get("RUNYARD_TEST_WRITE_SQL"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text


def test_no_file_is_left_over() -> None:
    """Each file is of a statement above."""
    assert {file.stem for file in FOLDER.glob("*.sql")} == set(STATEMENTS)
