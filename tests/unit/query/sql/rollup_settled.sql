SELECT countIf(block <= 1790000000000000000) AS row_count, count() AS row_count_total, minIf(step, block <= 1790000000000000000) AS first_step, maxIf(step, block <= 1790000000000000000) AS last_step
FROM points WHERE run = 7 AND metric = 11
