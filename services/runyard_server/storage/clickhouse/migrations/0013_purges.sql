-- What purges removed, by run and table: written before the rows go, so that a purge that is broken off and repeated still knows.
--   bytes  how much smaller the table became on the disk, shared out among the runs of one purge by their rows
CREATE TABLE IF NOT EXISTS purges (
    run        UInt64,
    table_name LowCardinality(String),
    rows       UInt64,
    bytes      UInt64,
    version    UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (run, table_name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
