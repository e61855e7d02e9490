-- Lists a block: from now on readers see it.
-- ?1: block, ?2, ?3: its oldest and newest time (ms), ?4, ?5: its first and last id, ?6: heartbeats,
-- ?7: samples, ?8, ?9: its first row of samples, and the one after its last
INSERT INTO blocks (block, min_ts, max_ts, min_id, max_id, heartbeats, samples, raw, first_row, end_row)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9)
