-- Lists a block: from now on readers see it.
-- ?1: block, ?2, ?3: its oldest and newest time (ms), ?4, ?5: its first and last id, ?6: heartbeats, ?7: samples
INSERT INTO blocks (block, min_ts, max_ts, min_id, max_id, heartbeats, samples, raw)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)
