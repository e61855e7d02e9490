-- Which GPUs do the hives have that ever sent a heartbeat?
SELECT gpu, uuid, "index", name, CAST(memory_total_mb AS REAL) AS "memory_total_mb: f64"
  FROM gpus
