SELECT * FROM (
SELECT run, metric, bucket, class, n, low, high, first_step, toInt64(bitShiftRight(last_key, 32)) AS last_step,
    toUInt32(bitAnd(last_key, 4294967295)) AS last_writer, last, last_time, high_sum, low_sum
FROM (
    SELECT run, metric, bitShiftRight(step, 3) AS bucket,
        toUInt16(if(exponent = 2047, multiIf(isNaN(value), 256, value > 0, 257, 258), bitShiftRight(exponent, 3))) AS class,
        count() AS n, min(value) AS low, max(value) AS high, min(step) AS first_step,
        max(key) AS last_key, argMax(value, key) AS last, argMax(time, key) AS last_time,
        sum(sign * toInt64(bitShiftLeft(bitShiftRight(mantissa, 26), offset))) AS high_sum,
        sum(sign * toInt64(bitShiftLeft(bitAnd(mantissa, 67108863), offset))) AS low_sum
    FROM (
        SELECT run, metric, step, time, value, toInt128(step) * 4294967296 + writer AS key,
            reinterpretAsUInt64(value) AS bits, bitAnd(bitShiftRight(bits, 52), 2047) AS exponent,
            bitOr(bitAnd(bits, 4503599627370495), bitShiftLeft(toUInt64(exponent != 0), 52)) AS mantissa,
            bitAnd(exponent + (exponent = 0), 7) AS offset, if(bitShiftRight(bits, 63) = 1, -1, 1) AS sign
        FROM points FINAL
        WHERE (run, metric) IN ((7, 11), (8, 11))
    )
    GROUP BY run, metric, bucket, class
)
UNION ALL
SELECT run, metric, bucket, class, n, low, high, first_step, toInt64(bitShiftRight(last_key, 32)) AS last_step,
    toUInt32(bitAnd(last_key, 4294967295)) AS last_writer, last, last_time, high_sum, low_sum
FROM (
    SELECT run, metric, bitShiftRight(step, 13) AS bucket,
        toUInt16(if(exponent = 2047, multiIf(isNaN(value), 256, value > 0, 257, 258), bitShiftRight(exponent, 3))) AS class,
        count() AS n, min(value) AS low, max(value) AS high, min(step) AS first_step,
        max(key) AS last_key, argMax(value, key) AS last, argMax(time, key) AS last_time,
        sum(sign * toInt64(bitShiftLeft(bitShiftRight(mantissa, 26), offset))) AS high_sum,
        sum(sign * toInt64(bitShiftLeft(bitAnd(mantissa, 67108863), offset))) AS low_sum
    FROM (
        SELECT run, metric, step, time, value, toInt128(step) * 4294967296 + writer AS key,
            reinterpretAsUInt64(value) AS bits, bitAnd(bitShiftRight(bits, 52), 2047) AS exponent,
            bitOr(bitAnd(bits, 4503599627370495), bitShiftLeft(toUInt64(exponent != 0), 52)) AS mantissa,
            bitAnd(exponent + (exponent = 0), 7) AS offset, if(bitShiftRight(bits, 63) = 1, -1, 1) AS sign
        FROM points FINAL
        WHERE run = 7 AND metric = 12 AND ((step >= 100 AND step < 1024) OR (step >= 9999360))
    )
    GROUP BY run, metric, bucket, class
)
UNION ALL
SELECT run, metric, bitShiftRight(bucket, 3) AS bucket, class, n, low, high, first_step, last_step, last_writer, last,
    last_time, high_sum, low_sum
FROM (SELECT * FROM buckets FINAL WHERE run = 7 AND metric = 12 AND ((bucket >= 1 AND bucket < 5) OR (bucket >= 6 AND bucket < 9765)) AND shift = 10)
ARRAY JOIN classes AS class, counts AS n, lows AS low, highs AS high, first_steps AS first_step, last_steps AS last_step,
    last_writers AS last_writer, lasts AS last, last_times AS last_time, high_sums AS high_sum, low_sums AS low_sum
) ORDER BY run, metric, bucket, class SETTINGS do_not_merge_across_partitions_select_final = 1
