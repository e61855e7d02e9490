-- What are the readings of some subjects in some blocks, one row for each block and subject?
-- ?1: a JSON array of blocks, ?2: one of subjects. For the rest see readings.sql
SELECT block, {subject}, group_concat(ts) AS times, group_concat(ifnull({figure}, '')) AS figures
  FROM {table}
 WHERE block IN (SELECT value FROM json_each(?1)) AND {subject} IN (SELECT value FROM json_each(?2))
 GROUP BY block, {subject}
