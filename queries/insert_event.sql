-- Records what happened. ?1: time (ms), ?2: kind, ?3: hive, ?4: worker (group/instance), ?5: detail (JSON)
INSERT INTO events (ts, kind, hive, worker, detail) VALUES (?1, ?2, ?3, ?4, ?5)
