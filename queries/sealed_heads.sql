-- What do sealed heartbeats say beside their workers and GPUs? Packed into one row, for few
-- large rows are handed over faster than many small ones: a JSON array of
-- [hive, ts: ms since the epoch, and columns as in the table].
-- ?1: a JSON array of [block, hive, ts: ms since the epoch]
SELECT json_group_array(json_array(
           h.hive, b.min_ts + h.ts, h.description, h.cpu_pct, h.memory_used_mb, h.load_1m,
           h.uptime_s, h.agent_cpu_pct, h.agent_rss_mb, h.collect_ms, h.spooled, h.gpu_age_ms,
           h.errors)) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
 CROSS JOIN heartbeats AS h
    ON h.block = b.block AND h.hive = k.value ->> 1 AND h.ts = (k.value ->> 2) - b.min_ts
