-- Deletes some rows of a block. ?1: block, ?2: how many
DELETE FROM heartbeats
 WHERE (block, hive, ts) IN (SELECT block, hive, ts FROM heartbeats WHERE block = ?1 ORDER BY block, hive, ts LIMIT ?2)
