-- Adds sums of one bucket. ?1: block, ?2: metric, ?3: bucket (ms), ?4: slice, ?5: series in it, ?6…: columns
INSERT INTO rollup_1h (block, metric, bucket, slice, count, series, n, sum, min, max, last, first, last_t, first_t)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
