-- What are the next live rows, packed into one? ?1: after this id, ?2, ?3: the range (ms, end exclusive),
-- ?4: a JSON array of hives, or NULL for all, ?5: how many rows. {array}: samples, gpus or node
SELECT max(id) AS last, group_concat(ts) AS times, group_concat(hive) AS hives,
       group_concat({array}, char(10)) AS arrays
  FROM (SELECT id, ts, hive, {array}
          FROM heartbeats_live
         WHERE id > ?1 AND ts >= ?2 AND ts < ?3
           AND (?4 IS NULL OR hive IN (SELECT value FROM json_each(?4)))
           AND NOT (id <= (SELECT sealed_id FROM progress) AND ts < (SELECT sealed_ts FROM progress))
         ORDER BY id
         LIMIT ?5)
