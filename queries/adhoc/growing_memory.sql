-- Which processes grow? Resident memory at the first and last reading of the last day.
-- worker, pid; first_mb, last_mb; mb_per_hour between them.
-- .param set :least_mb 100          (growth from which on it counts; without it: 1)
SELECT first.worker, first.pid, first.rss_mb AS first_mb, last.rss_mb AS last_mb,
       round((last.rss_mb - first.rss_mb) * 3600000.0 / (last.ts_ms - first.ts_ms), 1) AS mb_per_hour
  FROM (SELECT hive || '/' || "group" || '/' || instance AS worker, pid, rss_mb, min(ts_ms) AS ts_ms
          FROM history_last_day WHERE rss_mb IS NOT NULL GROUP BY worker, pid) AS first
  JOIN (SELECT hive || '/' || "group" || '/' || instance AS worker, pid, rss_mb, max(ts_ms) AS ts_ms
          FROM history_last_day WHERE rss_mb IS NOT NULL GROUP BY worker, pid) AS last
    ON last.worker = first.worker AND last.pid = first.pid AND last.ts_ms > first.ts_ms
 WHERE last.rss_mb - first.rss_mb >= ifnull(:least_mb, 1)
 ORDER BY mb_per_hour DESC, first.worker;
