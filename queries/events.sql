-- What happened in a range of time, newest first?
-- ?1, ?2: start and end (ms, exclusive); ?3, ?4: kinds and hives (JSON arrays, null: all); ?5: how many
SELECT e.event, e.ts, e.kind, h.id AS "hive: String", e.worker, e.detail
  FROM events AS e LEFT JOIN hives AS h ON h.hive = e.hive
 WHERE e.ts >= ?1 AND e.ts < ?2
   AND (?3 IS NULL OR e.kind IN (SELECT value FROM json_each(?3)))
   AND (?4 IS NULL OR h.id IN (SELECT value FROM json_each(?4)))
 ORDER BY e.ts DESC, e.event DESC LIMIT ?5
