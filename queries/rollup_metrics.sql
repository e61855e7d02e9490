-- Which metrics have minutes in an hour? ?1: its start (ms), ?2: its length (ms)
SELECT DISTINCT r.metric
  FROM blocks AS b
  JOIN rollup_1m AS r ON r.block = b.block
 WHERE b.max_ts >= ?1 AND b.min_ts < ?1 + ?2 AND r.bucket >= ?1 AND r.bucket < ?1 + ?2
 ORDER BY r.metric
