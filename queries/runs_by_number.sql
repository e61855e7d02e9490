-- Which worker runs have these numbers? ?1: a JSON array of run numbers
SELECT r.run, r."group", r.instance, r.pid, r.model,
       CAST(r.total_vram_mb AS REAL) AS "total_vram_mb: f64"
  FROM json_each(?1) AS wanted
 CROSS JOIN worker_runs AS r ON r.run = wanted.value
