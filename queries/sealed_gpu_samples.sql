-- What do sealed heartbeats say of their GPUs? One row for each stretch: its hive, and a JSON
-- array of [ts: ms since the epoch, gpu, and columns as in the table].
-- ?1: a JSON array of stretches [block, hive, first and last ts: ms since the epoch]
SELECT CAST(k.value ->> 1 AS INTEGER) AS "hive!: i64",
       (SELECT json_group_array(json_array(
                   b.min_ts + s.ts, s.gpu, s.util_pct, s.memory_used_mb, s.temperature_c,
                   s.power_w, s.state))
          FROM gpus AS g
         CROSS JOIN gpu_samples AS s
            ON s.block = b.block AND s.gpu = g.gpu
           AND s.ts BETWEEN (k.value ->> 2) - b.min_ts AND (k.value ->> 3) - b.min_ts
         WHERE g.hive = k.value ->> 1) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
