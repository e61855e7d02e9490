-- Deletes some minutes of a block. ?1: block, ?2: how many rows
DELETE FROM rollup_1m
 WHERE (block, metric, bucket, slice) IN (SELECT block, metric, bucket, slice FROM rollup_1m WHERE block = ?1 LIMIT ?2)
