-- What machines did while runs were on them. Key: (run, metric, writer, time); a repeated sample replaces itself.
--   time     Unix ms
--   sequence number of the record in the writer's system journal
-- Parted by the month of the sample, so that old samples go as whole parts while the runs' own points stay.
CREATE TABLE IF NOT EXISTS system_points (
    run      UInt64 CODEC(ZSTD(1)),
    metric   LowCardinality(String),
    writer   UInt32 CODEC(ZSTD(1)),
    time     Int64  CODEC(DoubleDelta, ZSTD(1)),
    value    Float64 CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(sequence)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(time, 'UTC'))
ORDER BY (run, metric, writer, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
