-- Which models worked hardest on a day?
-- model; worker_hours: how long workers of it ran; gpu_busy_hours: how long their GPUs computed;
-- mean_gpu_util_pct; most_workers: at once.
-- .param set :day "'2026-11-23'"    (UTC; without it: yesterday)
-- .param set :interval_s 1          (between two readings; without it: 1)
WITH asked (start) AS (SELECT unixepoch(ifnull(:day, date('now', '-1 day'))) * 1000)
SELECT model,
       round(sum(workers) * ifnull(:interval_s, 1) / 3600.0, 3) AS worker_hours,
       round(sum(util) / 100 * ifnull(:interval_s, 1) / 3600.0, 3) AS gpu_busy_hours,
       round(sum(util) / sum(known), 1) AS mean_gpu_util_pct,
       max(workers) AS most_workers
  FROM (SELECT model, count(*) AS workers, sum(gpu_util_pct) AS util, count(gpu_util_pct) AS known
          FROM history, asked
         WHERE ts_ms >= start AND ts_ms < start + 86400000 AND model IS NOT NULL
         GROUP BY model, ts_ms / (1000 * ifnull(:interval_s, 1)))
 GROUP BY model
 ORDER BY gpu_busy_hours DESC, model;
