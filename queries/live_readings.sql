-- Which readings are in the live part? (id, hive, ts: ms since the epoch, samples: workers)
-- ?1, ?2: ids from this one to before that one
SELECT l.id, l.hive, l.ts, json_array_length(l.samples) AS "samples!: i64"
  FROM heartbeats_live AS l, progress AS p
 WHERE l.id >= ?1 AND l.id < ?2
   AND NOT (l.id <= p.sealed_id AND l.ts < p.sealed_ts)
 ORDER BY l.id
