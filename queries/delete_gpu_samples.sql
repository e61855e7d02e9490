-- Deletes some rows of a block. ?1: block, ?2: how many
DELETE FROM gpu_samples
 WHERE (block, gpu, ts) IN (SELECT block, gpu, ts FROM gpu_samples WHERE block = ?1 ORDER BY block, gpu, ts LIMIT ?2)
