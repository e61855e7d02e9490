-- Deletes some hours that are older than they are kept. ?1: time (ms), ?2: how many rows
DELETE FROM rollup_1h
 WHERE (bucket, metric, block, slice) IN (SELECT bucket, metric, block, slice FROM rollup_1h WHERE bucket < ?1 LIMIT ?2)
