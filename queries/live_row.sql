-- Which live row has this id? ?1: id
SELECT l.hive, l.ts, l.samples, l.gpus, l.node, d.memory_total_mb, l.late
  FROM heartbeats_live AS l
  LEFT JOIN hive_descriptions AS d ON d.description = l.node ->> 0
 WHERE l.id = ?1
