-- Which are the first and the last id in the live part?
SELECT (SELECT min(id) FROM heartbeats_live) AS "first: i64", (SELECT max(id) FROM heartbeats_live) AS "last: i64"
