-- How many GPUs did nothing, hour by hour, in the last day?
-- hour (UTC); gpus: seen in it; idle: never above :busy_pct; idle_gpus: where they are.
-- .param set :busy_pct 5            (without it: 0)
SELECT strftime('%Y-%m-%d %H:00', hour_s, 'unixepoch') AS hour, count(*) AS gpus,
       sum(is_idle) AS idle,
       group_concat(CASE WHEN is_idle THEN hive || '/' || name END, ' ') AS idle_gpus
  FROM (SELECT ts_ms / 3600000 * 3600 AS hour_s, hive, ifnull("index", gpu) AS name,
               max(gpu_device_util_pct) <= ifnull(:busy_pct, 0) AS is_idle
          FROM gpu_history
         WHERE ts_ms >= (unixepoch('now') - 86400) * 1000 AND gpu_device_util_pct IS NOT NULL
         GROUP BY hour_s, hive, gpu, name
         ORDER BY hour_s, hive, name)
 GROUP BY hour_s
 ORDER BY hour_s;
