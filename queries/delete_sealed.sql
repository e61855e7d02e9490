-- Removes some live rows that stand in a block. ?1: up to this id, ?2: before this time (ms), ?3: how many
DELETE FROM heartbeats_live
 WHERE id IN (SELECT id FROM heartbeats_live WHERE id <= ?1 AND ts < ?2 ORDER BY id LIMIT ?3)
