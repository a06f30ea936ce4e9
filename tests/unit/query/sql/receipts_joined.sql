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
                FROM receipts FINAL WHERE run = 7
            )
        )
        WINDOW in_order AS (PARTITION BY writer ORDER BY first_record, last_record
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    WINDOW in_order AS (PARTITION BY writer ORDER BY first_record, last_record
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
GROUP BY writer, island
ORDER BY writer, first_sequence, last_sequence SETTINGS do_not_merge_across_partitions_select_final = 1
