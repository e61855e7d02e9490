-- What do sealed heartbeats say of their workers? One row for each stretch: its hive, and a JSON
-- array of [ts: ms since the epoch, run, ten figures in thousandths, gpus: as in the table].
-- ?1: a JSON array of stretches [block, hive, first and last ts: ms since the epoch]
SELECT CAST(k.value ->> 1 AS INTEGER) AS "hive!: i64",
       (SELECT json_group_array(json_array(
                   b.min_ts + s.ts, s.run, s.cpu_pct,
                   iif(typeof(s.rss_mb) = 'real', CAST(round(s.rss_mb * 1000) AS INTEGER), s.rss_mb * 1000),
                   s.io_r_mb_s, s.io_w_mb_s,
                   iif(typeof(s.uptime_s) = 'real', CAST(round(s.uptime_s * 1000) AS INTEGER), s.uptime_s * 1000),
                   iif(typeof(s.gpu_util_pct) = 'real', CAST(round(s.gpu_util_pct * 1000) AS INTEGER), s.gpu_util_pct * 1000),
                   iif(typeof(s.vram_mb) = 'real', CAST(round(s.vram_mb * 1000) AS INTEGER), s.vram_mb * 1000),
                   s.requests_running * 1000, s.requests_waiting * 1000, s.kv_cache_pct,
                   CASE typeof(s.gpus)
                        WHEN 'integer' THEN s.gpus
                        WHEN 'text' THEN iif(json_valid(s.gpus), json(s.gpus), NULL)
                    END))
          FROM worker_runs AS r
         CROSS JOIN samples AS s
            ON s.block = b.block AND s.run = r.run
           AND s.ts BETWEEN (k.value ->> 2) - b.min_ts AND (k.value ->> 3) - b.min_ts
         WHERE r.hive = k.value ->> 1) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
