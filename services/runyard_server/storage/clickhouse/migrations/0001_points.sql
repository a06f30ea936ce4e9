-- Points. Key: (run, metric, step, writer); of equal keys the highest sequence wins, so a repeated point replaces itself.
--   run      creation in Unix ms << 22 | random: ordered by time, and the source of the partition
--   metric   metric_id(name), see points_write.py; names are in `series`
--   time     Unix ms
--   sequence number of the journal record that logged the point
--   block    Unix ns at which ingest made the block that brought the point: tells what a rollup has not seen
-- A run lives in one partition, so FINAL stays local and a purge drops whole parts.
CREATE TABLE IF NOT EXISTS points (
    run      UInt64  CODEC(ZSTD(1)),
    metric   UInt64  CODEC(ZSTD(1)),
    step     Int64   CODEC(DoubleDelta, ZSTD(1)),
    writer   UInt32  CODEC(ZSTD(1)),
    time     Int64   CODEC(Delta, ZSTD(1)),
    value    Float64 CODEC(ZSTD(1)),
    sequence UInt64  CODEC(Delta, ZSTD(1)),
    block    UInt64  CODEC(Delta, ZSTD(1)),
    INDEX block_range block TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(sequence)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, metric, step, writer)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Catalogue of series: one row per series and block, merged by aggregates that a repeat does not change.
--   lowest, highest   of the finite values; +inf and -inf where none is
--   last     (step, writer, sequence, time, value): the point at the largest step
--   first    (step, writer, 2^64 - 1 - sequence, time, value): the point at the smallest step; of one key the highest sequence
CREATE TABLE IF NOT EXISTS series (
    run        UInt64,
    metric     UInt64,
    name       SimpleAggregateFunction(any, String) CODEC(ZSTD(1)),
    first_step SimpleAggregateFunction(min, Int64),
    last_step  SimpleAggregateFunction(max, Int64),
    lowest     SimpleAggregateFunction(min, Float64),
    highest    SimpleAggregateFunction(max, Float64),
    first      SimpleAggregateFunction(min, Tuple(Int64, UInt32, UInt64, Int64, Float64)),
    last       SimpleAggregateFunction(max, Tuple(Int64, UInt32, UInt64, Int64, Float64))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, metric)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Ranges of journal records that are durable. A row is written after all that it covers.
CREATE TABLE IF NOT EXISTS receipts (
    run             UInt64,
    writer          UInt32,
    first_sequence  UInt64,
    last_sequence   UInt64,
    points_accepted UInt64,
    points_rejected UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, writer, first_sequence, last_sequence)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Summary keys that scripts set themselves. version = writer << 40 | sequence: the last change wins.
CREATE TABLE IF NOT EXISTS summaries (
    run        UInt64,
    key        String CODEC(ZSTD(1)),
    value_json String CODEC(ZSTD(3)),
    is_removed UInt8,
    version    UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, key)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
