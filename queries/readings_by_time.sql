-- Which readings come next in the order of time and hive, and where are they?
-- (block: NULL while it is live; ts: ms since the epoch; workers: number of them)
-- ?1, ?2: after this time (ms) and hive id, ?3: before this time (ms)
-- ?4: a JSON array of hive numbers, or NULL for all, ?5: up to this id, ?6: how many
SELECT e.block AS "block?: i64", e.hive AS "hive!: i64", e.hive_id AS "hive_id!: String",
       e.ts AS "ts!: i64", e.id AS "id!: i64", e.workers AS "workers!: i64", 0 AS "late!: bool"
  FROM (SELECT b.block, n.hive, n.id AS hive_id, b.min_ts + h.ts AS ts, h.id, h.workers
          FROM blocks AS b
         CROSS JOIN hives AS n
         CROSS JOIN heartbeats AS h
            ON h.block = b.block AND h.hive = n.hive
           AND h.ts >= ?1 - b.min_ts AND h.ts < ?3 - b.min_ts
         WHERE b.raw = 1 AND b.max_ts >= ?1 AND b.min_ts < ?3 AND h.id <= ?5
           AND (?4 IS NULL OR n.hive IN (SELECT value FROM json_each(?4)))
         UNION ALL
        SELECT NULL, n.hive, n.id, l.ts, l.id, json_array_length(l.samples)
          FROM live_rows AS l
         CROSS JOIN hives AS n ON n.hive = l.hive
         WHERE l.ts >= ?1 AND l.ts < ?3 AND l.id <= ?5
           AND (?4 IS NULL OR l.hive IN (SELECT value FROM json_each(?4)))) AS e
 WHERE (e.ts, e.hive_id) > (?1, ?2)
 ORDER BY e.ts, e.hive_id
 LIMIT ?6
