-- What runs print. Key: (run, writer, line); of equal keys the highest sequence wins: a line whose text changed is told again.
--   time     when the line began, Unix ms
--   stream   1 stdout, 2 stderr, 3 said by the client
--   sequence number of the record in the writer's console journal
--   block    Unix ns at which ingest made the block that brought the line: tells a reader what is new
-- The text index holds lower-case letters: every search compares lower(text) first, and exactly where that is asked for.
CREATE TABLE IF NOT EXISTS console (
    run      UInt64 CODEC(ZSTD(1)),
    writer   UInt32 CODEC(ZSTD(1)),
    line     UInt64 CODEC(DoubleDelta, ZSTD(1)),
    time     Int64  CODEC(Delta, ZSTD(1)),
    stream   UInt8  CODEC(ZSTD(1)),
    text     String CODEC(ZSTD(3)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    block    UInt64 CODEC(Delta, ZSTD(1)),
    INDEX time_range time TYPE minmax GRANULARITY 1,
    INDEX block_range block TYPE minmax GRANULARITY 1,
    INDEX text_index lower(text) TYPE ngrambf_v1(4, 8192, 3, 0) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(sequence)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(run, 22)), 'UTC'))
ORDER BY (run, writer, line)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
