-- What do sealed heartbeats say of their workers? One row for each stretch: its hive, and a JSON
-- array of [ts: ms since the epoch, run, ten figures in thousandths, gpus: as in the table].
-- ?1: a JSON array of stretches [block, hive, first and last ts: ms since the epoch]
SELECT CAST(k.value ->> 1 AS INTEGER) AS "hive!: i64",
       (SELECT json_group_array(json_array(
                   b.min_ts + i.ts + s.row - i.row, i.run, s.cpu_pct,
                   iif(s.rss_mb < 0, -s.rss_mb, s.rss_mb * 1000),
                   s.io_r_mb_s, s.io_w_mb_s,
                   iif(s.uptime_s < 0, -s.uptime_s, s.uptime_s * 1000),
                   iif(s.gpu_util_pct < 0, -s.gpu_util_pct, s.gpu_util_pct * 1000),
                   iif(s.vram_mb < 0, -s.vram_mb, s.vram_mb * 1000),
                   s.requests_running * 1000, s.requests_waiting * 1000, s.kv_cache_pct,
                   CASE typeof(s.gpus)
                        WHEN 'integer' THEN s.gpus
                        WHEN 'text' THEN iif(json_valid(s.gpus), json(s.gpus), NULL)
                    END))
          FROM worker_runs AS r
         CROSS JOIN sample_index AS i
            ON i.block = b.block AND i.run = r.run
           AND i.ts <= (k.value ->> 3) - b.min_ts AND i.ts + i.span >= (k.value ->> 2) - b.min_ts
         CROSS JOIN samples AS s
            ON s.row BETWEEN i.row + max(0, (k.value ->> 2) - b.min_ts - i.ts)
                         AND i.row + min(i.span, (k.value ->> 3) - b.min_ts - i.ts)
         WHERE r.hive = k.value ->> 1) AS "rows!: String"
  FROM json_each(?1) AS k
 CROSS JOIN blocks AS b ON b.block = k.value ->> 0
