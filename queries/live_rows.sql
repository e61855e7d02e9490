-- Which live rows have these ids? ?1: a JSON array of ids
SELECT l.id, l.hive, l.ts, l.samples, l.gpus, l.node,
       CAST(d.memory_total_mb AS REAL) AS "memory_total_mb: f64"
  FROM json_each(?1) AS wanted
  JOIN heartbeats_live AS l ON l.id = wanted.value
  LEFT JOIN hive_descriptions AS d ON d.description = l.node ->> 0
