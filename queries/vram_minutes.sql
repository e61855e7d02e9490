-- How much GPU memory did worker runs use since a moment, by minute? ?1: the metric, ?2: the
-- moment (ms)
SELECT r.count AS "count!: i64", r.series AS "series!: Vec<u8>", r.n AS "n!: Vec<u8>",
       r.max AS "max!: Vec<u8>"
  FROM (SELECT block FROM blocks WHERE raw = 1 AND max_ts >= ?2
         UNION ALL
        SELECT block FROM blocks WHERE raw = 0 AND max_ts >= ?2) AS b
 CROSS JOIN rollup_1m AS r ON r.block = b.block AND r.metric = ?1 AND r.bucket >= ?2
