-- Where is there room for a model right now, by the newest readings?
-- worker, model; gpu_util_pct, running, waiting; free_vram_mb: of its devices; age_s: of the reading.
-- .param set :needed_mb 8192        (without it: 0)
SELECT hive || '/' || "group" || '/' || instance AS worker, model, gpu_util_pct,
       requests_running AS running, requests_waiting AS waiting,
       total_vram_mb - vram_mb AS free_vram_mb, unixepoch('now') - ts_ms / 1000 AS age_s
  FROM latest
 WHERE total_vram_mb - vram_mb > ifnull(:needed_mb, 0)
 ORDER BY free_vram_mb DESC, worker;
