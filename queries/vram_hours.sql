-- How much GPU memory did worker runs use, by hour? ?1: the metric, ?2, ?3: the range (ms, end
-- exclusive). The hours are counted off, so that rows of other metrics are not even passed over.
WITH RECURSIVE hours (bucket) AS (
    SELECT (?2 + 3599999) / 3600000 * 3600000
     UNION ALL
    SELECT bucket + 3600000 FROM hours WHERE bucket + 3600000 < ?3
)
SELECT r.count AS "count!: i64", r.series AS "series!: Vec<u8>", r.n AS "n!: Vec<u8>",
       r.max AS "max!: Vec<u8>"
  FROM hours
 CROSS JOIN rollup_1h AS r ON r.bucket = hours.bucket AND r.metric = ?1
 WHERE r.bucket < ?3
