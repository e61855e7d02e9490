-- Do requests wait because GPUs are busy, or for another reason? The last day, model by model.
-- model; gpu_util: a band of utilisation; readings: in it; waiting_pct: of them with requests
-- waiting; mean_waiting, max_waiting. Many that wait in the band 0 point to something else.
SELECT model,
       CASE WHEN gpu_util_pct = 0 THEN '0'
            WHEN gpu_util_pct < 50 THEN 'below 50'
            WHEN gpu_util_pct < 90 THEN '50 to 90'
            ELSE '90 and more' END AS gpu_util,
       count(*) AS readings, round(100.0 * sum(requests_waiting > 0) / count(*), 1) AS waiting_pct,
       round(avg(requests_waiting), 2) AS mean_waiting, max(requests_waiting) AS max_waiting
  FROM history_last_day
 WHERE gpu_util_pct IS NOT NULL AND requests_waiting IS NOT NULL
 GROUP BY model, gpu_util
 ORDER BY model, min(gpu_util_pct);
