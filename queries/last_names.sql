-- Which are the newest numbers of worker runs and of GPUs? 0 where there are none.
SELECT ifnull((SELECT max(run) FROM worker_runs), 0) AS "run!: i64",
       ifnull((SELECT max(gpu) FROM gpus), 0) AS "gpu!: i64"
