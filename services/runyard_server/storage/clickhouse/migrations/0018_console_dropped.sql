-- Runs whose lines are dropped, or about to be, up to a block: their archives are read. Written before any line goes.
CREATE TABLE IF NOT EXISTS console_dropped (
    run   UInt64,
    block UInt64
)
ENGINE = ReplacingMergeTree(block)
ORDER BY run
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
