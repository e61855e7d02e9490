-- Which block is older than minutes are kept? ?1: time (ms)
SELECT block FROM blocks WHERE raw = 0 AND max_ts < ?1 ORDER BY block LIMIT 1
