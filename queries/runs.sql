-- Which worker runs come next, as a JSON array of rows? ?1: after this one, ?2: how many
SELECT max(run) AS "last: i64",
       json_group_array(json_array(run, hive, "group", instance, pid, model, total_vram_mb))
           AS "runs!: String"
  FROM (SELECT run, hive, "group", instance, pid, model, total_vram_mb
          FROM worker_runs WHERE run > ?1 ORDER BY run LIMIT ?2)
