-- How much of a range of time does the history still have? ?1, ?2: the range (ms, end exclusive).
-- Blocks go oldest first, so where block 1 is gone the minutes are whole from the oldest block on.
SELECT p.rolled_ts,
       (SELECT block FROM blocks ORDER BY block LIMIT 1) AS "oldest_block: i64",
       (SELECT min(min_id / 1000, max_ts) FROM blocks ORDER BY block LIMIT 1) AS "oldest_ts: i64",
       EXISTS (SELECT 1 FROM blocks WHERE raw = 0 AND max_ts >= ?1 AND min_ts < ?2)
           AS "raw_missing!: bool"
  FROM progress AS p
