-- What do sealed heartbeats say of their workers? One row for each stretch: its hive, and a JSON
-- array of [ts: ms since the epoch, run, and columns as in the table; gpus: always a list].
-- ?1: a JSON array of stretches [block, hive, first and last ts: ms since the epoch]
SELECT CAST(k.value ->> 1 AS INTEGER) AS "hive!: i64",
       (SELECT json_group_array(json_array(
                   b.min_ts + s.ts, s.run, s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s,
                   s.uptime_s, s.gpu_util_pct, s.vram_mb, s.requests_running,
                   s.requests_waiting, s.kv_cache_pct,
                   CASE typeof(s.gpus)
                        WHEN 'integer' THEN json_array(json_array(s.gpus, s.gpu_util_pct, s.vram_mb))
                        WHEN 'text' THEN json(s.gpus)
                    END))
          FROM worker_runs AS r
         CROSS JOIN samples AS s
            ON s.block = b.block AND s.run = r.run
           AND s.ts BETWEEN (k.value ->> 2) - b.min_ts AND (k.value ->> 3) - b.min_ts
         WHERE r.hive = k.value ->> 1) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
