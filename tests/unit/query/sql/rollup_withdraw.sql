INSERT INTO rollups SELECT run, metric, shift, end_bucket, 4, row_count, version + 1
FROM rollups FINAL WHERE version > 5 AND covered_block > 4 LIMIT 256
