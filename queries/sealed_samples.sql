-- What do a hive's sealed heartbeats say of their workers? By group and instance.
-- (ts: ms since the epoch; figures as in the table)
-- ?1: block, ?2: hive, ?3, ?4: from this time to that, inclusive: ms since the epoch
SELECT b.min_ts + i.ts + s.row - i.row, i.run, s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s,
       s.uptime_s, s.gpu_util_pct, s.vram_mb, s.requests_running, s.requests_waiting,
       s.kv_cache_pct, s.gpus
  FROM blocks AS b
 CROSS JOIN worker_runs AS r ON r.hive = ?2
 CROSS JOIN sample_index AS i
    ON i.block = b.block AND i.run = r.run
   AND i.ts <= ?4 - b.min_ts AND i.ts + i.span >= ?3 - b.min_ts
 CROSS JOIN samples AS s
    ON s.row BETWEEN i.row + max(0, ?3 - b.min_ts - i.ts)
                 AND i.row + min(i.span, ?4 - b.min_ts - i.ts)
 WHERE b.block = ?1
 ORDER BY r."group", r.instance
