-- What do sealed heartbeats say of their workers?
-- (hive, ts: ms since the epoch; figures as in the table; gpus: a number or a JSON array)
-- ?1: a JSON array of [block, hive, first and last ts: ms since the epoch]
SELECT r.hive, b.min_ts + s.ts AS "ts!: i64", s.run AS "run!: i64", s.cpu_pct,
       CAST(s.rss_mb AS REAL) AS "rss_mb: f64", s.io_r_mb_s, s.io_w_mb_s,
       CAST(s.uptime_s AS REAL) AS "uptime_s: f64",
       CAST(s.gpu_util_pct AS REAL) AS "gpu_util_pct: f64",
       CAST(s.vram_mb AS REAL) AS "vram_mb: f64", s.requests_running, s.requests_waiting,
       s.kv_cache_pct, CAST(s.gpus AS TEXT) AS "gpus: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
 CROSS JOIN worker_runs AS r ON r.hive = k.value ->> 1
 CROSS JOIN samples AS s
    ON s.block = b.block AND s.run = r.run
   AND s.ts BETWEEN (k.value ->> 2) - b.min_ts AND (k.value ->> 3) - b.min_ts
