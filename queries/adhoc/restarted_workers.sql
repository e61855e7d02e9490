-- Which workers restarted in the last day, and when did the last process begin?
-- hive, group, instance; restarts: processes after the first; last_seen_new: the first reading of
-- the newest process (UTC); model: what it runs.
SELECT hive, "group", instance, count(*) - 1 AS restarts, max(first_ts) AS last_seen_new, model
  FROM (SELECT hive, "group", instance, pid, min(ts) AS first_ts, model
          FROM history_last_day
         GROUP BY hive, "group", instance, pid)
 GROUP BY hive, "group", instance
HAVING count(*) > 1
 ORDER BY restarts DESC, hive, "group", instance;
