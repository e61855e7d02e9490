-- Removes the live rows that stand in blocks. ?1: sealed up to this id, ?2: and before this time (ms)
DELETE FROM heartbeats_live WHERE id <= ?1 AND ts < ?2
