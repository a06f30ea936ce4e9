SELECT run, metric, sizes.row_count AS size
FROM (SELECT run, metric, sum(rows_in_granule) AS row_count FROM mergeTreeIndex(currentDatabase(), 'points')
    GROUP BY run, metric HAVING row_count >= 65536) AS sizes
LEFT JOIN (SELECT run, metric, row_count AS rolled_count FROM rollups FINAL) AS rolled USING (run, metric)
WHERE size >= rolled_count + greatest(65536, toUInt64(rolled_count * 0.05))
ORDER BY size - rolled_count DESC LIMIT 256
