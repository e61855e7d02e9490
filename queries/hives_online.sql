-- Which hives were last seen to come, and not to go?
SELECT id FROM hives AS h
 WHERE 'hive_online' = (SELECT kind FROM events AS e
                         WHERE e.hive = h.hive AND e.kind IN ('hive_online', 'hive_offline')
                         ORDER BY e.event DESC LIMIT 1)
