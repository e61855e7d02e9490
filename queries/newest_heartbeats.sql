-- What is the newest reading of each hive, as it is stored, with what its hive says of itself?
SELECT l.id, hives.hive, hives.id AS hive_id, l.ts, l.samples, l.gpus, l.node,
       d.description, d.hostname, d.port, d.operational_status, d.health_status, d.version,
       CAST(d.interval_ms AS REAL) AS "interval_ms: f64", d.cpu_count,
       CAST(d.memory_total_mb AS REAL) AS "memory_total_mb: f64", d.agent_version
  FROM hive_newest
  JOIN hives ON hives.hive = hive_newest.hive
  JOIN heartbeats_live AS l ON l.id = hive_newest.id
  JOIN hive_descriptions AS d ON d.description = l.node ->> 0
