SELECT run, metric, count() AS n, min(step) AS first_step, max(step) AS last_step, toUInt8(0) AS shift, toInt64(0) AS end_bucket, toUInt64(0) AS covered_block
FROM points FINAL WHERE (run, metric) IN ((7, 11), (8, 11)) AND step >= 0 AND step < 10000
    AND (run, metric) NOT IN (SELECT run, metric FROM rollups WHERE (run, metric) IN ((7, 11), (8, 11)))
GROUP BY run, metric
UNION ALL
SELECT run, metric, toUInt64(0), toInt64(0), toInt64(0), shift, end_bucket, covered_block
FROM rollups FINAL WHERE (run, metric) IN ((7, 11), (8, 11)) SETTINGS do_not_merge_across_partitions_select_final = 1
