-- Which block without single readings ends first, before a time? ?1: time (ms). max_ts: ms since the epoch
SELECT block, max_ts FROM blocks WHERE raw <> 1 AND raw = 0 AND max_ts < ?1 ORDER BY max_ts LIMIT 1
