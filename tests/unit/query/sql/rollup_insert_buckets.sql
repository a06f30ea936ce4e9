INSERT INTO buckets SELECT run, metric, 10, bucket, 3, groupArray(class), groupArray(n), groupArray(low), groupArray(high), groupArray(first_step), groupArray(last_step), groupArray(last_writer), groupArray(last), groupArray(last_time), groupArray(high_sum), groupArray(low_sum)
FROM (
SELECT run, metric, bucket, class, n, low, high, first_step, toInt64(bitShiftRight(last_key, 32)) AS last_step,
    toUInt32(bitAnd(last_key, 4294967295)) AS last_writer, last, last_time, high_sum, low_sum
FROM (
    SELECT run, metric, bitShiftRight(step, 10) AS bucket,
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
        WHERE run = 7 AND metric = 11 AND step >= 0 AND step < 2048
    )
    GROUP BY run, metric, bucket, class
)
) GROUP BY run, metric, bucket
SETTINGS do_not_merge_across_partitions_select_final = 1, max_threads = 1
