-- Adds a heartbeat to the live part. ?1: id, ?2: hive, ?3: time (ms), ?4: samples, ?5: gpus, ?6: node
-- ?7: whether it is late data
INSERT INTO heartbeats_live (id, hive, ts, samples, gpus, node, late)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
