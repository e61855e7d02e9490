-- What did every worker do in the minute of an incident?
-- worker; readings: in that minute; pids: more than one is a restart; then the extremes: what was
-- too high or too low stands out.
-- .param set :at "'2026-11-23 18:30'"    (UTC)
WITH asked (start) AS (SELECT unixepoch(:at) / 60 * 60000)
SELECT hive || '/' || "group" || '/' || instance AS worker, model, count(*) AS readings,
       count(DISTINCT pid) AS pids, max(cpu_pct) AS max_cpu_pct, max(rss_mb) AS max_rss_mb,
       min(gpu_util_pct) AS min_gpu_util_pct, max(gpu_util_pct) AS max_gpu_util_pct,
       max(vram_mb) AS max_vram_mb, max(requests_waiting) AS max_waiting
  FROM history, asked
 WHERE ts_ms >= start AND ts_ms < start + 60000
 GROUP BY hive, "group", instance
 ORDER BY max_waiting DESC, worker;
