-- Which GPUs ran hottest in the last day, and what did they draw?
-- hive, index, name; max_temperature_c; at: when (UTC); mean_power_w; energy_wh.
-- .param set :interval_s 1          (between two readings; without it: 1)
SELECT hive, "index", name, max(gpu_temperature_c) AS max_temperature_c, ts AS at,
       round(avg(gpu_power_w), 1) AS mean_power_w,
       round(sum(gpu_power_w) * ifnull(:interval_s, 1) / 3600, 3) AS energy_wh
  FROM gpu_history
 WHERE ts_ms >= (unixepoch('now') - 86400) * 1000
 GROUP BY hive, gpu
 ORDER BY max_temperature_c DESC, hive, "index";
