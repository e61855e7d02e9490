-- Which worker runs of some hives come next, as a JSON array of rows?
-- ?1: after this one, ?2: how many, ?3: a JSON array of hives. The + keep SQLite to the index by hive
SELECT max(run) AS "last: i64",
       json_group_array(json_array(run, hive, "group", instance, pid, model, total_vram_mb))
           AS "runs!: String"
  FROM (SELECT run, hive, "group", instance, pid, model, total_vram_mb
          FROM worker_runs
         WHERE hive IN (SELECT value FROM json_each(?3)) AND +run > ?1
         ORDER BY +run LIMIT ?2)
