-- Deletes some rows of a block. ?1: block, ?2: how many
DELETE FROM sample_index
 WHERE (block, run, row) IN (SELECT block, run, row FROM sample_index WHERE block = ?1 ORDER BY block, run, row LIMIT ?2)
