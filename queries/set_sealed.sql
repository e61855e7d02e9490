-- Hides the live rows that stand in the block just listed. ?1: up to this id, ?2: before this time (ms)
UPDATE progress SET sealed_id = ?1, sealed_ts = ?2
