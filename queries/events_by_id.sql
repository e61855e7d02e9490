-- What was recorded after an id up to another, in order? ?1, ?2: the ids, ?3: how many
SELECT e.event, e.ts, e.kind, h.id AS "hive: String", e.worker, e.detail
  FROM events AS e LEFT JOIN hives AS h ON h.hive = e.hive
 WHERE e.event > ?1 AND e.event <= ?2
 ORDER BY e.event LIMIT ?3
