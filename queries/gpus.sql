-- Which GPUs come next, as a JSON array of rows?
-- ?1: after this one, ?2: how many, ?3: a JSON array of hives, or NULL for all
SELECT max(gpu) AS "last: i64",
       json_group_array(json_array(gpu, hive, uuid, "index", name, memory_total_mb)) AS "gpus!: String"
  FROM (SELECT gpu, hive, uuid, "index", name, memory_total_mb
          FROM gpus
         WHERE gpu > ?1 AND (?3 IS NULL OR hive IN (SELECT value FROM json_each(?3)))
         ORDER BY gpu LIMIT ?2)
