SELECT run, metric, step, writer, time, value FROM (
(
SELECT run, metric, step, writer, time, value FROM points FINAL WHERE run = 7 AND metric = 11 AND step < 500 ORDER BY run, metric, step, writer LIMIT 10001)
UNION ALL
(
SELECT run, metric, step, writer, time, value FROM points FINAL WHERE run = 8 AND metric = 11 AND step < 500 ORDER BY run, metric, step, writer LIMIT 10001)
) ORDER BY run, metric, step, writer SETTINGS do_not_merge_across_partitions_select_final = 1
