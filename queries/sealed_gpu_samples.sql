-- What do sealed heartbeats say of their GPUs? One row for each stretch: its hive, and a JSON
-- array of [ts: ms since the epoch, gpu, four figures in thousandths, state].
-- ?1: a JSON array of stretches [block, hive, first and last ts: ms since the epoch]
SELECT CAST(k.value ->> 1 AS INTEGER) AS "hive!: i64",
       (SELECT json_group_array(json_array(
                   b.min_ts + s.ts, s.gpu,
                   iif(typeof(s.util_pct) = 'real', CAST(round(s.util_pct * 1000) AS INTEGER), s.util_pct * 1000),
                   iif(typeof(s.memory_used_mb) = 'real', CAST(round(s.memory_used_mb * 1000) AS INTEGER), s.memory_used_mb * 1000),
                   iif(typeof(s.temperature_c) = 'real', CAST(round(s.temperature_c * 1000) AS INTEGER), s.temperature_c * 1000),
                   s.power_w, s.state))
          FROM gpus AS g
         CROSS JOIN gpu_samples AS s
            ON s.block = b.block AND s.gpu = g.gpu
           AND s.ts BETWEEN (k.value ->> 2) - b.min_ts AND (k.value ->> 3) - b.min_ts
         WHERE g.hive = k.value ->> 1) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
