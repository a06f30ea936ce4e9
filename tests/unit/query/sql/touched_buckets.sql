SELECT * FROM (
SELECT run, metric, bitShiftRight(step, 10) AS bucket FROM points
WHERE run = 7 AND metric = 12 AND step >= 1024 AND step < 9999360 AND block > 1790000000000000000
GROUP BY run, metric, bucket
) ORDER BY run, metric, bucket SETTINGS do_not_merge_across_partitions_select_final = 1
