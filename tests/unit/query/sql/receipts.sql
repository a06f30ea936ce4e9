SELECT writer, first_sequence, last_sequence, points_accepted, points_rejected FROM receipts FINAL WHERE run = 7
ORDER BY writer, first_sequence, last_sequence LIMIT 5001 SETTINGS do_not_merge_across_partitions_select_final = 1
