-- What are the readings of some workers in some blocks, one row for each entry of the index?
-- ?1: a JSON array of blocks, ?2: one of runs. {figure}: a column of samples. For the rest see readings.sql
SELECT i.block, i.run, group_concat(i.ts + s.row - i.row) AS times,
       group_concat(ifnull({figure}, '')) AS figures
  FROM sample_index AS i
 CROSS JOIN samples AS s ON s.row BETWEEN i.row AND i.row + i.span
 WHERE i.block IN (SELECT value FROM json_each(?1)) AND i.run IN (SELECT value FROM json_each(?2))
 GROUP BY i.block, i.run, i.row
