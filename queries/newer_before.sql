-- Which newer reading did the hive have already? (place: in the list asked for; ts: ms, NULL: none)
-- ?1: a JSON array of [hive id, time (ms)], ?2: up to this id
WITH live AS MATERIALIZED (SELECT hive, max(ts) AS ts FROM live_rows WHERE id <= ?2 GROUP BY hive)
SELECT k.key + 0 AS "place!: i64",
       (SELECT max(ts)
          FROM (SELECT max(b.min_ts + h.ts) AS ts
                  FROM blocks AS b
                 CROSS JOIN heartbeats AS h
                    ON h.block = b.block AND h.hive = n.hive AND h.ts > (k.value ->> 1) - b.min_ts
                 WHERE b.raw = 1 AND b.max_ts > k.value ->> 1 AND b.min_id <= ?2 AND h.id <= ?2
                 UNION ALL
                SELECT live.ts FROM live WHERE live.hive = n.hive AND live.ts > k.value ->> 1)
       ) AS "ts: i64"
  FROM json_each(?1) AS k
  JOIN hives AS n ON n.id = k.value ->> 0
