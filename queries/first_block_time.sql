-- When was the oldest reading that stands in a block? (ms); null without blocks
SELECT min(min_ts) AS "ts: i64" FROM blocks
