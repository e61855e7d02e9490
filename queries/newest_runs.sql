-- Which worker runs does the newest reading of each hive name?
SELECT r.run, r."group", r.instance, r.pid, r.model,
       CAST(r.total_vram_mb AS REAL) AS "total_vram_mb: f64"
  FROM hive_newest
  JOIN heartbeats_live AS l ON l.id = hive_newest.id
  JOIN json_each(l.samples) AS s
  JOIN worker_runs AS r ON r.run = s.value ->> 0
