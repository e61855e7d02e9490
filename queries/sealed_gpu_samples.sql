-- What do sealed heartbeats say of their GPUs? (hive, ts: ms since the epoch; figures as in the table)
-- ?1: a JSON array of [block, hive, first and last ts: ms since the epoch]
SELECT g.hive, b.min_ts + s.ts AS "ts!: i64", s.gpu AS "gpu!: i64",
       CAST(s.util_pct AS REAL) AS "util_pct: f64",
       CAST(s.memory_used_mb AS REAL) AS "memory_used_mb: f64",
       CAST(s.temperature_c AS REAL) AS "temperature_c: f64", s.power_w, s.state
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
 CROSS JOIN gpus AS g ON g.hive = k.value ->> 1
 CROSS JOIN gpu_samples AS s
    ON s.block = b.block AND s.gpu = g.gpu
   AND s.ts BETWEEN (k.value ->> 2) - b.min_ts AND (k.value ->> 3) - b.min_ts
