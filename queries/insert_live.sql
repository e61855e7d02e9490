-- Adds a heartbeat to the live part. ?1: id, ?2: hive, ?3: time (ms), ?4: samples, ?5: gpus, ?6: node
INSERT INTO heartbeats_live (id, hive, ts, samples, gpus, node) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
