SELECT run, metric, sum(n) AS n, min(first_step) AS first_step, max(last_step) AS last_step
FROM (
SELECT run, metric, count() AS n, min(step) AS first_step, max(step) AS last_step FROM points FINAL
WHERE run = 7 AND metric = 12 AND ((step >= 100 AND step < 1024) OR (step >= 9999360)) GROUP BY run, metric
UNION ALL
SELECT run, metric, sum(arraySum(counts)) AS n, min(arrayMin(first_steps)) AS first_step,
    max(arrayMax(last_steps)) AS last_step FROM buckets FINAL
WHERE run = 7 AND metric = 12 AND ((bucket >= 1 AND bucket < 5) OR (bucket >= 6 AND bucket < 9765)) AND shift = 10 GROUP BY run, metric
) GROUP BY run, metric SETTINGS do_not_merge_across_partitions_select_final = 1
