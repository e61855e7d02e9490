-- Where is the newest reading of each hive? (block: NULL while it is live; ts: ms since the epoch)
-- ?1: after this hive number, ?2: how many
SELECT n.block, n.hive, hives.id AS hive_id, n.ts, n.id, 0 AS "workers!: i64", 0 AS "late!: bool"
  FROM hive_newest AS n
  JOIN hives ON hives.hive = n.hive
 WHERE n.hive > ?1
 ORDER BY n.hive
 LIMIT ?2
