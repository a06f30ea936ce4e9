"""SQL that reads receipts: one row per acknowledged range, or per island of ranges that adjoin."""

from __future__ import annotations

from typing import Final

from runyard_server.storage.clickhouse.points_read_sql import SETTINGS

RECEIPT_COLUMNS: Final = (
    "writer", "first_sequence", "last_sequence", "points_accepted", "points_rejected",
)  # fmt: skip

# A range is alone if it shares no record with any other. Ranges in order that are alone and adjoin make an island; a range
# that is not alone is an island of its own, so that what its points are worth can still be told (query/receipts.py).
_JOINED: Final = """
SELECT writer, min(first_record) AS first_sequence, max(last_record) AS last_sequence,
    sum(accepted) AS points_accepted, sum(rejected) AS points_rejected
FROM (
    SELECT *, sum(toUInt64(NOT joins)) OVER in_order AS island
    FROM (
        SELECT *, is_alone AND first_record = reached + 1 AND lagInFrame(is_alone) OVER in_order AS joins
        FROM (
            SELECT *, first_record > reached AND (following = 0 OR last_record < following) AS is_alone
            FROM (
                SELECT writer, first_sequence AS first_record, last_sequence AS last_record,
                    points_accepted AS accepted, points_rejected AS rejected,
                    max(last_sequence) OVER (PARTITION BY writer ORDER BY first_sequence, last_sequence
                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached,
                    leadInFrame(first_sequence) OVER (PARTITION BY writer ORDER BY first_sequence, last_sequence
                        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS following
                FROM receipts FINAL WHERE run = {run}
            )
        )
        WINDOW in_order AS (PARTITION BY writer ORDER BY first_record, last_record
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    WINDOW in_order AS (PARTITION BY writer ORDER BY first_record, last_record
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
GROUP BY writer, island
ORDER BY writer, first_sequence, last_sequence"""


def receipts_sql(run: int, *, limit: int) -> str:
    """Returns the SQL for the first receipts of a run, by (writer, first_sequence)."""
    return (
        f"SELECT {', '.join(RECEIPT_COLUMNS)} FROM receipts FINAL WHERE run = {int(run)}"
        f"\nORDER BY writer, first_sequence, last_sequence LIMIT {limit} {SETTINGS}"
    )


def joined_receipts_sql(run: int) -> str:
    """Returns the SQL for the receipts of a run, those that adjoin and overlap no other joined."""
    return f"{_JOINED.format(run=int(run)).strip()} {SETTINGS}"
