-- Which workers ran out of KV cache in the last day, and did requests wait meanwhile?
-- worker, model; readings: above :full_pct; of_all_pct: their share; mean_waiting: meanwhile.
-- .param set :full_pct 80           (without it: 90)
SELECT hive || '/' || "group" || '/' || instance AS worker, model,
       sum(kv_cache_pct >= ifnull(:full_pct, 90)) AS readings,
       round(100.0 * sum(kv_cache_pct >= ifnull(:full_pct, 90)) / count(*), 1) AS of_all_pct,
       round(avg(requests_waiting) FILTER (WHERE kv_cache_pct >= ifnull(:full_pct, 90)), 2) AS mean_waiting
  FROM history_last_day
 WHERE kv_cache_pct IS NOT NULL
 GROUP BY worker, model
HAVING sum(kv_cache_pct >= ifnull(:full_pct, 90)) > 0
 ORDER BY readings DESC, worker;
