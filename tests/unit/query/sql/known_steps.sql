SELECT run, metric, min(first_step) AS step_low, max(last_step) AS step_high FROM series WHERE (run, metric) IN ((7, 11), (8, 11)) GROUP BY run, metric
