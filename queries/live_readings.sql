-- Which readings are in the live part? (id, hive, ts: ms since the epoch, samples: workers)
SELECT l.id, l.hive, l.ts, json_array_length(l.samples) AS "samples!: i64"
  FROM heartbeats_live AS l, progress AS p
 WHERE NOT (l.id <= p.sealed_id AND l.ts < p.sealed_ts)
 ORDER BY l.id
