-- Until when are single readings gone? (ms since the epoch) 0 if none was deleted.
SELECT ifnull(max(max_ts), 0) AS "ts!: i64" FROM blocks WHERE raw <> 1
