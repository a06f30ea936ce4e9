-- What runs log besides numbers. Key: (run, name, step, writer); of equal keys the highest sequence wins, so a repeated value
-- replaces itself.
--   time     Unix ns
--   kind     1 image, 2 audio, 3 video, 4 html, 5 table, 6 histogram, 7 plot
--   size     about how many bytes the value takes in a reply
--   items    JSON array of objects; of a histogram empty
--   edges, counts, non_finite   of a histogram
--   sequence number of the record in the writer's journal
-- Values are large and few are read at a time: granules are small.
CREATE TABLE IF NOT EXISTS media (
    run        UInt64 CODEC(ZSTD(1)),
    name       String CODEC(ZSTD(1)),
    step       Int64  CODEC(DoubleDelta, ZSTD(1)),
    writer     UInt32 CODEC(ZSTD(1)),
    time       Int64  CODEC(Delta, ZSTD(1)),
    kind       UInt8  CODEC(ZSTD(1)),
    size       UInt32 CODEC(ZSTD(1)),
    items      String CODEC(ZSTD(3)),
    edges      Array(Float64) CODEC(ZSTD(1)),
    counts     Array(Float64) CODEC(ZSTD(1)),
    non_finite UInt64 CODEC(ZSTD(1)),
    sequence   UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(sequence)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, name, step, writer)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 64;
