SELECT shift, end_bucket, covered_block, row_count FROM rollups FINAL WHERE run = 7 AND metric = 11
