-- Tells where the newest readings of hives were sealed. ?1: block, ?2: up to this id, ?3: before this time (ms)
UPDATE hive_newest SET block = ?1 WHERE block IS NULL AND id <= ?2 AND ts < ?3
