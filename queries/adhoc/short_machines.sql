-- Which machines were short of memory or processors in the last day?
-- hive; max_memory_pct: the most that was used; at: when (UTC); max_load_per_cpu: above 1, work
-- waited for a processor.
-- .param set :memory_pct 90         (from which on it counts; without it: 0)
SELECT hive, round(max(100.0 * node_memory_used_mb / node_memory_total_mb), 1) AS max_memory_pct,
       ts AS at, round(max_load, 2) AS max_load_per_cpu
  FROM (SELECT *, max(node_load_1m / node_cpu_count) OVER (PARTITION BY hive) AS max_load
          FROM hive_heartbeats
         WHERE ts_ms >= (unixepoch('now') - 86400) * 1000 AND node_memory_total_mb > 0)
 GROUP BY hive
HAVING max_memory_pct >= ifnull(:memory_pct, 0)
 ORDER BY max_memory_pct DESC, hive;
