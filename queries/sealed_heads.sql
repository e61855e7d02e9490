-- What do a hive's sealed heartbeats say beside their workers and GPUs?
-- (ts: ms since the epoch; figures as in the table)
-- ?1: block, ?2: hive, ?3, ?4: from this time to that, inclusive: ms since the epoch
SELECT b.min_ts + h.ts, h.description, h.cpu_pct, h.memory_used_mb, h.load_1m, h.uptime_s,
       h.agent_cpu_pct, h.agent_rss_mb, h.collect_ms, h.spooled, h.gpu_age_ms, h.errors
  FROM blocks AS b
 CROSS JOIN heartbeats AS h
    ON h.block = b.block AND h.hive = ?2 AND h.ts BETWEEN ?3 - b.min_ts AND ?4 - b.min_ts
 WHERE b.block = ?1
