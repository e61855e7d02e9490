-- What do sealed heartbeats say beside their workers and GPUs?
-- (at: place in the list asked for; columns as in the table)
-- ?1: a JSON array of [block, hive, ts: ms since the epoch]
SELECT k.key + 0 AS "at!: i64", h.description, h.cpu_pct,
       CAST(h.memory_used_mb AS REAL) AS "memory_used_mb: f64", h.load_1m,
       CAST(h.uptime_s AS REAL) AS "uptime_s: f64", h.agent_cpu_pct,
       CAST(h.agent_rss_mb AS REAL) AS "agent_rss_mb: f64", h.collect_ms, h.spooled,
       CAST(h.gpu_age_ms AS REAL) AS "gpu_age_ms: f64", h.errors
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
 CROSS JOIN heartbeats AS h
    ON h.block = b.block AND h.hive = k.value ->> 1 AND h.ts = (k.value ->> 2) - b.min_ts
