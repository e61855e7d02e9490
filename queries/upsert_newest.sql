-- Moves the newest reading of a hive forward, never back. ?1: hive, ?2: time (ms), ?3: id
INSERT INTO hive_newest (hive, ts, id) VALUES (?1, ?2, ?3)
    ON CONFLICT (hive) DO UPDATE SET ts = excluded.ts, id = excluded.id, block = NULL
 WHERE excluded.ts > hive_newest.ts
