-- Which readings come next in the order of their receipt, and where are they?
-- (block: NULL while it is live; ts: ms since the epoch; workers: number of them)
-- ?1, ?2: after this id and up to that, ?3: a JSON array of hive numbers, or NULL for all
-- ?4: how many
SELECT e.block, e.hive, n.id, e.ts, e.id, e.workers, e.late
  FROM (SELECT *
          FROM (SELECT b.block, h.hive, b.min_ts + h.ts AS ts, h.id, h.workers, h.late
                  FROM blocks AS b
                 CROSS JOIN heartbeats AS h ON h.block = b.block
                 WHERE b.raw = 1 AND b.max_id > ?1 AND b.min_id <= ?2 AND h.id > ?1 AND h.id <= ?2
                 UNION ALL
                SELECT NULL, l.hive, l.ts, l.id, json_array_length(l.samples), l.late
                  FROM progress AS p
                 CROSS JOIN heartbeats_live AS l
                 WHERE NOT (l.id <= p.sealed_id AND l.ts < p.sealed_ts)
                   AND l.id > ?1 AND l.id <= ?2)
         WHERE ?3 IS NULL OR hive IN (SELECT value FROM json_each(?3))
         ORDER BY id
         LIMIT ?4) AS e
 CROSS JOIN hives AS n ON n.hive = e.hive
 ORDER BY e.id
