-- Which GPUs have these numbers? ?1: a JSON array of GPU numbers
SELECT g.gpu, g.uuid, g."index", g.name, CAST(g.memory_total_mb AS REAL) AS "memory_total_mb: f64"
  FROM json_each(?1) AS wanted
 CROSS JOIN gpus AS g ON g.gpu = wanted.value
