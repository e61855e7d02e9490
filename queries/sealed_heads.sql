-- What do sealed heartbeats say beside their workers and GPUs? One row: a JSON array of
-- [hive, ts: ms since the epoch, description, nine figures in thousandths, errors].
-- ?1: a JSON array of [block, hive, ts: ms since the epoch]
SELECT json_group_array(json_array(
           h.hive, b.min_ts + h.ts, h.description, h.cpu_pct,
           iif(typeof(h.memory_used_mb) = 'real', CAST(round(h.memory_used_mb * 1000) AS INTEGER), h.memory_used_mb * 1000),
           h.load_1m,
           iif(typeof(h.uptime_s) = 'real', CAST(round(h.uptime_s * 1000) AS INTEGER), h.uptime_s * 1000),
           h.agent_cpu_pct,
           iif(typeof(h.agent_rss_mb) = 'real', CAST(round(h.agent_rss_mb * 1000) AS INTEGER), h.agent_rss_mb * 1000),
           h.collect_ms, h.spooled * 1000,
           iif(typeof(h.gpu_age_ms) = 'real', CAST(round(h.gpu_age_ms * 1000) AS INTEGER), h.gpu_age_ms * 1000),
           h.errors)) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
 CROSS JOIN heartbeats AS h
    ON h.block = b.block AND h.hive = k.value ->> 1 AND h.ts = (k.value ->> 2) - b.min_ts
