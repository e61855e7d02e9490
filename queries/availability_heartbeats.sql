-- When did the heartbeats of a hive come, and how long did it mean to wait for the next?
-- (ts: ms since the epoch; interval_ms: NULL where it did not say)
-- ?1: hive number, ?2, ?3: first time and time after the last (ms)
SELECT e.ts AS "ts!: i64", CAST(d.interval_ms AS REAL) AS "interval_ms?: f64"
  FROM (SELECT b.min_ts + h.ts AS ts, h.description
          FROM blocks AS b
         CROSS JOIN heartbeats AS h
            ON h.block = b.block AND h.hive = ?1
           AND h.ts >= ?2 - b.min_ts AND h.ts < ?3 - b.min_ts
         WHERE b.raw = 1 AND b.max_ts >= ?2 AND b.min_ts < ?3
         UNION ALL
        SELECT l.ts, l.node ->> 0
          FROM live_rows AS l
         WHERE l.hive = ?1 AND l.ts >= ?2 AND l.ts < ?3) AS e
  LEFT JOIN hive_descriptions AS d ON d.description = e.description
 ORDER BY e.ts
