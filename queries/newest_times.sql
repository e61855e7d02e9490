-- When was the newest reading of each hive, and under which id?
SELECT hive, ts, id FROM hive_newest ORDER BY hive
