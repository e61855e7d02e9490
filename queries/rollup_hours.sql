-- Which sums by hour of a metric begin in a range? ?1: metric, ?2, ?3: the range (ms, end exclusive).
-- The hours are counted off, so that rows of other metrics are not even passed over.
-- {a}, {b}: the columns that are needed
WITH RECURSIVE hours (bucket) AS (
    SELECT (?2 + 3599999) / 3600000 * 3600000
     UNION ALL
    SELECT bucket + 3600000 FROM hours WHERE bucket + 3600000 < ?3
)
SELECT r.bucket, r.count, r.series, {a}, {b}
  FROM hours
 CROSS JOIN rollup_1h AS r ON r.bucket = hours.bucket AND r.metric = ?1
 WHERE r.bucket < ?3
