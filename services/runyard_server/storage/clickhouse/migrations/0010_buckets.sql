-- Stored buckets of long series, recomputed whole from `points FINAL`; see rollup.py. Width 2^shift, bucket = floor(step / 2^shift).
-- The arrays are parallel, one element per class of values in the bucket (see points_read_sql.py): sums of a class are
-- exact integers, so that buckets of any width come out bit by bit as if they were made from the points.
CREATE TABLE IF NOT EXISTS buckets (
    run          UInt64  CODEC(ZSTD(1)),
    metric       UInt64  CODEC(ZSTD(1)),
    shift        UInt8   CODEC(ZSTD(1)),
    bucket       Int64   CODEC(DoubleDelta, ZSTD(1)),
    version      UInt64  CODEC(ZSTD(1)),
    classes      Array(UInt16)  CODEC(ZSTD(1)),
    counts       Array(UInt64)  CODEC(ZSTD(1)),
    lows         Array(Float64) CODEC(ZSTD(1)),
    highs        Array(Float64) CODEC(ZSTD(1)),
    first_steps  Array(Int64)   CODEC(ZSTD(1)),
    last_steps   Array(Int64)   CODEC(ZSTD(1)),
    last_writers Array(UInt32)  CODEC(ZSTD(1)),
    lasts        Array(Float64) CODEC(ZSTD(1)),
    last_times   Array(Int64)   CODEC(ZSTD(1)),
    high_sums    Array(Int64)   CODEC(ZSTD(1)),
    low_sums     Array(Int64)   CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, metric, shift, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What of each long series is in `buckets`: all buckets of that shift below `end_bucket`, as of the points whose block is at
-- most `covered_block`. A row is written after the buckets that it speaks of, and both are synced: a rollup never promises
-- buckets that a power cut took. row_count is the size of the series then, to see how much it grew.
CREATE TABLE IF NOT EXISTS rollups (
    run           UInt64,
    metric        UInt64,
    shift         UInt8,
    end_bucket    Int64,
    covered_block UInt64,
    row_count     UInt64,
    version       UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, metric)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
