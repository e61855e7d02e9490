-- Which hives are known? (hive: row number, id: name)
SELECT hive, id FROM hives
