-- How much of a range of time does the history still have? ?1, ?2: the range (ms, end exclusive)
SELECT rolled_ts, minutes_ts,
       EXISTS (SELECT 1 FROM blocks WHERE raw <> 1 AND max_ts >= ?1 AND min_ts < ?2)
           AS "raw_missing!: bool"
  FROM progress
