-- Searches pass over colours: where a text holds escape sequences, `plain` is the text without them. Lines without any, nearly all,
-- keep an empty one, so the column takes next to nothing; both searches and the index look at the one that is shown.
ALTER TABLE console ADD COLUMN IF NOT EXISTS plain String MATERIALIZED if(position(text, '\x1b') = 0, '',
    replaceRegexpAll(text, '\\x1b\\[[0-?]*[ -/]*[@-~]|\\x1b[\\]PX^_][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)|\\x1b[ -/]*[0-~]?', ''))
    CODEC(ZSTD(3)) AFTER text;
ALTER TABLE console DROP INDEX IF EXISTS text_index;
ALTER TABLE console ADD INDEX IF NOT EXISTS shown_index lower(if(position(text, '\x1b') = 0, text, plain)) TYPE ngrambf_v1(4, 8192, 3, 0) GRANULARITY 1;
ALTER TABLE console MATERIALIZE INDEX shown_index;
-- Which writers printed, and when their last line came (the latest `block` of console): tells what is new without reading lines.
CREATE TABLE IF NOT EXISTS console_writers (
    run    UInt64,
    writer UInt32,
    block  SimpleAggregateFunction(max, UInt64),
    INDEX block_range block TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
ORDER BY (run, writer)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
INSERT INTO console_writers SELECT run, writer, max(block) FROM console GROUP BY run, writer;
