-- Removes a change that a late reading shows at another time. ?1: hive, ?2: time (ms), ?3: kind, ?4: worker, ?5: detail
DELETE FROM events WHERE ts = ?2 AND hive = ?1 AND kind = ?3 AND worker IS ?4 AND detail = ?5
