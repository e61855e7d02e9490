-- What could the agents not measure or not send in the last day?
-- hive; error: as the agent said it; heartbeats: that said so; last: when (UTC). "spooled" are
-- heartbeats that waited for the queen, the most at once.
SELECT hive, e.value AS error, count(*) AS heartbeats, max(ts) AS last
  FROM hive_heartbeats CROSS JOIN json_each(errors) AS e
 WHERE ts_ms >= (unixepoch('now') - 86400) * 1000
 GROUP BY hive, error
 UNION ALL
SELECT hive, 'spooled ' || max(spooled), count(*), max(ts)
  FROM hive_heartbeats
 WHERE ts_ms >= (unixepoch('now') - 86400) * 1000 AND spooled > 0
 GROUP BY hive
 ORDER BY heartbeats DESC, hive, error;
