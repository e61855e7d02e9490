-- Which hive is it, and how often does it send?
-- (hive: its number; newest_ms, longest_ms: intervals that it gave, NULL where it gave none)
-- ?1: its id
SELECT hives.hive AS "hive!: i64",
       CAST((SELECT d.interval_ms
               FROM hive_descriptions AS d
              WHERE d.hive = hives.hive AND d.interval_ms IS NOT NULL
              ORDER BY d.description DESC
              LIMIT 1) AS REAL) AS "newest_ms?: f64",
       CAST((SELECT max(d.interval_ms)
               FROM hive_descriptions AS d
              WHERE d.hive = hives.hive) AS REAL) AS "longest_ms?: f64"
  FROM hives
 WHERE hives.id = ?1
