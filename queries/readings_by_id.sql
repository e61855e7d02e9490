-- Which readings come next in the order of their receipt, and where are they?
-- (block: NULL while it is live; ts: ms since the epoch; workers: number of them)
-- ?1, ?2: after this id and up to that, ?3: a JSON array of hive numbers, or NULL for all
-- ?4: how many
SELECT e.block AS "block?: i64", e.hive AS "hive!: i64", n.id AS "hive_id!: String",
       e.ts AS "ts!: i64", e.id AS "id!: i64", e.workers AS "workers!: i64"
  FROM (SELECT b.block, h.hive, b.min_ts + h.ts AS ts, h.id, h.workers
          FROM blocks AS b
         CROSS JOIN heartbeats AS h ON h.block = b.block
         WHERE b.raw = 1 AND b.max_id > ?1 AND b.min_id <= ?2 AND h.id > ?1 AND h.id <= ?2
         UNION ALL
        SELECT NULL, l.hive, l.ts, l.id, json_array_length(l.samples)
          FROM live_rows AS l
         WHERE l.id > ?1 AND l.id <= ?2) AS e
  JOIN hives AS n ON n.hive = e.hive
 WHERE ?3 IS NULL OR e.hive IN (SELECT value FROM json_each(?3))
 ORDER BY e.id
 LIMIT ?4
