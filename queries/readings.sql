-- What are the readings in some blocks, one row for each block and subject? ?1: a JSON array of blocks.
-- Times are ms since the block's min_ts; a figure that is not known is an empty field.
-- {table}, {subject}: gpu_samples and gpu, or heartbeats and hive; {figure}: a column
SELECT block, {subject}, group_concat(ts) AS times, group_concat(ifnull({figure}, '')) AS figures
  FROM {table}
 WHERE block IN (SELECT value FROM json_each(?1))
 GROUP BY block, {subject}
