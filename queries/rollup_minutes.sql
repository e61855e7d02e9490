-- Which sums by minute of a metric begin in a range? ?1: metric, ?2, ?3: the range (ms, end exclusive),
-- ?4: a JSON array of blocks. {a}, {b}: the columns that are needed
SELECT bucket, count, series, {a}, {b}
  FROM rollup_1m
 WHERE block IN (SELECT value FROM json_each(?4)) AND metric = ?1 AND bucket >= ?2 AND bucket < ?3
