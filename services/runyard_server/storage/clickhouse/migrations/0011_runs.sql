-- The analytical copy of run documents: metadata publishes, query reads. One row per run and version; the highest version wins.
--   config      flattened to dotted paths, for filters; what ClickHouse cannot hold there is left out
--   config_json the config as it was given: integers exact to 64 bits, keys in their order
-- Times are Unix ns, 0 where not set.
CREATE TABLE IF NOT EXISTS runs (
    entity         LowCardinality(String),
    project        LowCardinality(String),
    run            UInt64,
    run_id         String,
    display_name   String,
    state          LowCardinality(String),
    is_deleted     UInt8,
    run_group      LowCardinality(String),
    job_type       LowCardinality(String),
    tags           Array(LowCardinality(String)),
    notes          String CODEC(ZSTD(3)),
    create_time    Int64,
    start_time     Int64,
    end_time       Int64,
    heartbeat_time Int64,
    update_time    Int64,
    exit_code      Nullable(Int32),
    attempt_count  UInt32,
    writer_count   UInt32,
    hostname       LowCardinality(String),
    username       LowCardinality(String),
    host_json      String CODEC(ZSTD(3)),
    metric_definitions_json String CODEC(ZSTD(3)),
    config         JSON(max_dynamic_paths = 1024),
    config_json    String CODEC(ZSTD(3)),
    version        UInt64,
    INDEX run_id_filter run_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX run_filter run TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (entity, project, run)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
