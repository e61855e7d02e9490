-- Records what happened. ?1: id, ?2: time (ms), ?3: kind, ?4: hive, ?5: worker (group/instance), ?6: detail (JSON)
INSERT INTO events (event, ts, kind, hive, worker, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
