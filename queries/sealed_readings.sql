-- Which sealed readings does a hive have in a range of time? ?1: hive, ?2, ?3: first and last time (ms)
SELECT b.min_ts + h.ts AS "ts!: i64", h.id
  FROM blocks AS b
  JOIN heartbeats AS h ON h.block = b.block AND h.hive = ?1 AND h.ts BETWEEN ?2 - b.min_ts AND ?3 - b.min_ts
 WHERE b.raw = 1 AND b.max_ts >= ?2 AND b.min_ts <= ?3
