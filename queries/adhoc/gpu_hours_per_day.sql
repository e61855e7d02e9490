-- How many GPU hours did each model take, day by day?
-- day (UTC); model; loaded_hours: a worker held the model; busy_hours: its GPU computed.
-- .param set :interval_s 1          (between two readings; without it: 1)
-- Reads every single reading that is kept.
SELECT date(ts_ms / 1000, 'unixepoch') AS day, ifnull(model, '(unknown)') AS model,
       round(count(*) * ifnull(:interval_s, 1) / 3600.0, 3) AS loaded_hours,
       round(sum(gpu_util_pct) / 100 * ifnull(:interval_s, 1) / 3600.0, 3) AS busy_hours
  FROM history
 GROUP BY 1, 2
 ORDER BY day, busy_hours DESC, model;
