SELECT run, metric, shift, end_bucket, covered_block FROM rollups FINAL WHERE (run, metric) IN ((7, 11), (8, 11)) SETTINGS do_not_merge_across_partitions_select_final = 1
