-- What do hives say of themselves under these numbers? ?1: a JSON array of description numbers
SELECT d.description, d.hostname, d.port, d.operational_status, d.health_status, d.version,
       CAST(d.interval_ms AS REAL) AS "interval_ms: f64", d.cpu_count,
       CAST(d.memory_total_mb AS REAL) AS "memory_total_mb: f64", d.agent_version
  FROM json_each(?1) AS wanted
 CROSS JOIN hive_descriptions AS d ON d.description = wanted.value
