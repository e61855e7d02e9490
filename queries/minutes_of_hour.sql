-- What do the minutes of an hour say of a metric? ?1: its start (ms), ?2: its length (ms), ?3: metric
SELECT r.bucket, r.count, r.series, r.n, r.sum, r.min, r.max, r.last, r.first, r.last_t, r.first_t
  FROM (SELECT block FROM blocks WHERE raw = 1 AND max_ts >= ?1 AND min_ts < ?1 + ?2
         UNION ALL
        SELECT block FROM blocks WHERE raw <> 1 AND max_ts >= ?1 AND min_ts < ?1 + ?2) AS b
 CROSS JOIN rollup_1m AS r
    ON r.block = b.block AND r.metric = ?3 AND r.bucket >= ?1 AND r.bucket < ?1 + ?2
