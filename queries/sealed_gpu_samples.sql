-- What do a hive's sealed heartbeats say of its GPUs? By index and uuid.
-- (ts: ms since the epoch; figures as in the table)
-- ?1: block, ?2: hive, ?3, ?4: from this time to that, inclusive: ms since the epoch
SELECT b.min_ts + s.ts, s.gpu, s.util_pct, s.memory_used_mb, s.temperature_c, s.power_w, s.state
  FROM blocks AS b
 CROSS JOIN gpus AS g ON g.hive = ?2
 CROSS JOIN gpu_samples AS s
    ON s.block = b.block AND s.gpu = g.gpu AND s.ts BETWEEN ?3 - b.min_ts AND ?4 - b.min_ts
 WHERE b.block = ?1
 ORDER BY g."index", g.uuid, g.gpu
