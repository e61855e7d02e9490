-- Deletes some rows of a block. ?1: block, ?2: how many
DELETE FROM samples
 WHERE (block, run, ts) IN (SELECT block, run, ts FROM samples WHERE block = ?1 ORDER BY block, run, ts LIMIT ?2)
