-- Which readings are in the live part? (id, hive, ts: ms since the epoch)
SELECT id, hive, ts FROM heartbeats_live ORDER BY id
