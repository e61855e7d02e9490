-- When did a hive not report, in the last day?
-- hive; silent_from, silent_to: its heartbeats before and after (UTC); seconds between them.
-- A hive that is silent still is not among them: see state in GET /v1/hives.
-- .param set :longest_s 10          (the longest silence that is no gap; without it: 3)
SELECT hive, before AS silent_from, ts AS silent_to, (ts_ms - before_ms) / 1000.0 AS seconds
  FROM (SELECT hive, ts, ts_ms, lag(ts) OVER each AS before, lag(ts_ms) OVER each AS before_ms
          FROM hive_heartbeats
         WHERE ts_ms >= (unixepoch('now') - 86400) * 1000
        WINDOW each AS (PARTITION BY hive ORDER BY ts_ms))
 WHERE ts_ms - before_ms > 1000 * ifnull(:longest_s, 3)
 ORDER BY ts_ms, hive;
