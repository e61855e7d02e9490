-- Which blocks may hold readings of a range of time? ?1, ?2: the range (ms, end exclusive). Four lists
SELECT group_concat(block) AS "blocks: String", group_concat(min_ts) AS "min_ts: String",
       group_concat(max_ts) AS "max_ts: String", group_concat(raw) AS "raw: String"
  FROM (SELECT block, min_ts, max_ts, raw FROM blocks
         WHERE raw = 1 AND max_ts >= ?1 AND min_ts < ?2
         UNION ALL
        SELECT block, min_ts, max_ts, raw FROM blocks
         WHERE raw <> 1 AND max_ts >= ?1 AND min_ts < ?2)
