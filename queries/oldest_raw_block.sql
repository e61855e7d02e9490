-- Which block with single readings ends first? min_ts, max_ts: ms since the epoch
SELECT block, min_ts, max_ts FROM blocks WHERE raw = 1 ORDER BY max_ts LIMIT 1
