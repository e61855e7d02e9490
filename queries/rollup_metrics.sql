-- Which metrics have minutes in an hour? ?1: its start (ms), ?2: its length (ms)
SELECT DISTINCT r.metric AS "metric!: i64"
  FROM (SELECT block FROM blocks WHERE raw = 1 AND max_ts >= ?1 AND min_ts < ?1 + ?2
         UNION ALL
        SELECT block FROM blocks WHERE raw <> 1 AND max_ts >= ?1 AND min_ts < ?1 + ?2) AS b
 CROSS JOIN rollup_1m AS r ON r.block = b.block AND r.bucket >= ?1 AND r.bucket < ?1 + ?2
 ORDER BY r.metric
