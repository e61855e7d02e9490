-- Sealed samples, each at a row number that says what its key said.
--
-- The samples of one run in one block stand side by side, each at the number of the first one
-- plus the ms that have passed since. Such a number costs no more than run and time together, a
-- time is found at once, and rows are only ever appended, which fills their pages.

ALTER TABLE samples RENAME TO keyed_samples;

-- Where the samples of a run in a block are. Between two samples of an entry there are at most
-- five minutes: after a longer gap comes another entry.
CREATE TABLE sample_index (
    block INTEGER NOT NULL,
    run   INTEGER NOT NULL,
    row   INTEGER NOT NULL,                 -- of the first sample
    ts    INTEGER NOT NULL,                 -- ms since the block's min_ts, of the first sample
    span  INTEGER NOT NULL,                 -- ms from the first sample to the last
    PRIMARY KEY (block, run, row)
) STRICT, WITHOUT ROWID;

CREATE TABLE samples (
    row              INTEGER PRIMARY KEY,   -- sample_index.row + ms since its first sample
    cpu_pct          INTEGER,               -- 1/1000 percent
    -- A figure with * is in its unit where it is whole; else it is below zero and in -1/1000 of
    -- the unit.
    rss_mb           INTEGER,               -- MiB *
    io_r_mb_s        INTEGER,               -- 1/1000 MiB/s
    io_w_mb_s        INTEGER,               -- 1/1000 MiB/s
    uptime_s         INTEGER,               -- s *
    gpu_util_pct     INTEGER,               -- percent *
    vram_mb          INTEGER,               -- MiB *
    requests_running INTEGER,
    requests_waiting INTEGER,
    kv_cache_pct     INTEGER,               -- 1/1000 percent
    -- NULL: none; a number: that GPU alone, with the worker's own figures;
    -- else [[gpu, util_pct, vram_mb], …]
    gpus             ANY
) STRICT;

INSERT INTO sample_index (block, run, row, ts, span)
SELECT block, run,
       1 + ifnull(sum(span + 1) OVER (ORDER BY block, run ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0),
       ts, span
  FROM (SELECT block, run, min(ts) AS ts, max(ts) - min(ts) AS span FROM keyed_samples GROUP BY block, run);

INSERT INTO samples
SELECT i.row + s.ts - i.ts, s.cpu_pct,
       iif(typeof(s.rss_mb) = 'real', -CAST(round(s.rss_mb * 1000) AS INTEGER), s.rss_mb),
       s.io_r_mb_s, s.io_w_mb_s,
       iif(typeof(s.uptime_s) = 'real', -CAST(round(s.uptime_s * 1000) AS INTEGER), s.uptime_s),
       iif(typeof(s.gpu_util_pct) = 'real', -CAST(round(s.gpu_util_pct * 1000) AS INTEGER), s.gpu_util_pct),
       iif(typeof(s.vram_mb) = 'real', -CAST(round(s.vram_mb * 1000) AS INTEGER), s.vram_mb),
       s.requests_running, s.requests_waiting, s.kv_cache_pct, s.gpus
  FROM keyed_samples AS s
 CROSS JOIN sample_index AS i ON i.block = s.block AND i.run = s.run
 ORDER BY s.block, s.run, s.ts;

-- The rows of a block are from first_row to before end_row, and those of the next come after them.
ALTER TABLE blocks ADD COLUMN first_row INTEGER NOT NULL DEFAULT 1;
ALTER TABLE blocks ADD COLUMN end_row INTEGER NOT NULL DEFAULT 1;
UPDATE blocks
   SET first_row = n.first_row, end_row = n.end_row
  FROM (SELECT b.block,
               coalesce(i.first_row, max(i.end_row) OVER up_to, 1) AS first_row,
               coalesce(i.end_row, max(i.end_row) OVER up_to, 1) AS end_row
          FROM blocks AS b
          LEFT JOIN (SELECT block, min(row) AS first_row, max(row + span) + 1 AS end_row
                       FROM sample_index GROUP BY block) AS i ON i.block = b.block
        WINDOW up_to AS (ORDER BY b.block)) AS n
 WHERE n.block = blocks.block;

DROP VIEW sealed_samples;
CREATE VIEW sealed_samples AS
SELECT b.block, b.max_ts AS block_max_ts, b.min_ts + i.ts + s.row - i.row AS ts_ms, i.run,
       s.cpu_pct / 1000.0      AS cpu_pct,
       iif(s.rss_mb < 0, s.rss_mb / -1000.0, s.rss_mb) AS rss_mb,
       s.io_r_mb_s / 1000.0    AS io_r_mb_s,
       s.io_w_mb_s / 1000.0    AS io_w_mb_s,
       iif(s.gpu_util_pct < 0, s.gpu_util_pct / -1000.0, s.gpu_util_pct + 0.0) AS gpu_util_pct,
       iif(s.vram_mb < 0, s.vram_mb / -1000.0, s.vram_mb) AS vram_mb,
       iif(s.uptime_s < 0, s.uptime_s / -1000.0, s.uptime_s) AS uptime_s,
       s.requests_running      AS requests_running,
       s.requests_waiting      AS requests_waiting,
       s.kv_cache_pct / 1000.0 AS kv_cache_pct
  FROM blocks AS b
 CROSS JOIN sample_index AS i ON i.block = b.block
 CROSS JOIN samples AS s ON s.row BETWEEN i.row AND i.row + i.span
 WHERE b.raw = 1;

-- The newest reading of each worker: those in the newest heartbeat of its hive.
DROP VIEW latest;
CREATE VIEW latest AS
SELECT strftime('%Y-%m-%d %H:%M:%f', n.ts / 1000.0, 'unixepoch') AS ts, n.ts AS ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct / 1000.0 AS cpu_pct,
       iif(s.rss_mb < 0, s.rss_mb / -1000.0, s.rss_mb) AS rss_mb,
       s.io_r_mb_s / 1000.0 AS io_r_mb_s, s.io_w_mb_s / 1000.0 AS io_w_mb_s,
       iif(s.gpu_util_pct < 0, s.gpu_util_pct / -1000.0, s.gpu_util_pct + 0.0) AS gpu_util_pct,
       iif(s.vram_mb < 0, s.vram_mb / -1000.0, s.vram_mb) AS vram_mb,
       r.total_vram_mb,
       iif(s.uptime_s < 0, s.uptime_s / -1000.0, s.uptime_s) AS uptime_s,
       s.requests_running, s.requests_waiting, s.kv_cache_pct / 1000.0 AS kv_cache_pct
  FROM hive_newest AS n
 CROSS JOIN hives ON hives.hive = n.hive
 CROSS JOIN blocks AS b ON b.block = n.block
 CROSS JOIN worker_runs AS r ON r.hive = n.hive
 CROSS JOIN sample_index AS i
    ON i.block = n.block AND i.run = r.run AND n.ts - b.min_ts BETWEEN i.ts AND i.ts + i.span
 CROSS JOIN samples AS s ON s.row = i.row + n.ts - b.min_ts - i.ts
UNION ALL
SELECT strftime('%Y-%m-%d %H:%M:%f', n.ts / 1000.0, 'unixepoch') AS ts, n.ts AS ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       (s.value ->> 1) + 0.0 AS cpu_pct, s.value ->> 2 AS rss_mb,
       (s.value ->> 3) + 0.0 AS io_r_mb_s, (s.value ->> 4) + 0.0 AS io_w_mb_s,
       (s.value ->> 6) + 0.0 AS gpu_util_pct, s.value ->> 7 AS vram_mb,
       r.total_vram_mb, s.value ->> 5 AS uptime_s, s.value ->> 8 AS requests_running,
       s.value ->> 9 AS requests_waiting, (s.value ->> 10) + 0.0 AS kv_cache_pct
  FROM hive_newest AS n
 CROSS JOIN hives ON hives.hive = n.hive
 CROSS JOIN heartbeats_live AS l ON l.id = n.id
 CROSS JOIN json_each(l.samples) AS s
 CROSS JOIN worker_runs AS r ON r.run = s.value ->> 0
 WHERE n.block IS NULL;

DROP TABLE keyed_samples;
