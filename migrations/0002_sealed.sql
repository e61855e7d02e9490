-- The sealed part of the history: blocks of readings, sorted by series and time.
--
-- A block holds what was received during about a minute. Its rows are written in slices and
-- become visible together, when the block is listed in `blocks`: a reader looks only at listed
-- blocks. Late readings are just part of the next block.
--
-- Figures are kept as whole numbers of thousandths where they usually have a fraction; memory,
-- times and counts, which are usually whole, are INTEGER where they are whole and REAL where
-- they are not. The views give them their units.

CREATE TABLE blocks (
    block      INTEGER PRIMARY KEY,
    min_ts     INTEGER NOT NULL,            -- ms since the epoch, of the oldest reading in it
    max_ts     INTEGER NOT NULL,            -- ms since the epoch, of the newest
    min_id     INTEGER NOT NULL,            -- heartbeat ids in it
    max_id     INTEGER NOT NULL,
    heartbeats INTEGER NOT NULL,            -- number of them
    samples    INTEGER NOT NULL,            -- worker-samples
    raw        INTEGER NOT NULL             -- 1: single readings are there; 2: they are being
                                            -- deleted; 0: only rollups
) STRICT;
-- Finds the blocks of a range of time without reading those before it.
CREATE INDEX blocks_by_time ON blocks (max_ts, min_ts) WHERE raw = 1;
-- Finds what is being deleted, at once.
CREATE INDEX blocks_half_deleted ON blocks (block) WHERE raw = 2;

CREATE TABLE samples (
    block            INTEGER NOT NULL,
    run              INTEGER NOT NULL,
    ts               INTEGER NOT NULL,      -- ms since the block's min_ts
    cpu_pct          INTEGER,               -- 1/1000 percent
    rss_mb           ANY,                   -- MiB
    io_r_mb_s        INTEGER,               -- 1/1000 MiB/s
    io_w_mb_s        INTEGER,               -- 1/1000 MiB/s
    uptime_s         ANY,                   -- s
    gpu_util_pct     ANY,                   -- percent
    vram_mb          ANY,                   -- MiB
    requests_running INTEGER,
    requests_waiting INTEGER,
    kv_cache_pct     INTEGER,               -- 1/1000 percent
    -- NULL: none; a number: that GPU alone, with the worker's own figures;
    -- else [[gpu, util_pct, vram_mb], …]
    gpus             ANY,
    PRIMARY KEY (block, run, ts)
) STRICT, WITHOUT ROWID;

CREATE TABLE gpu_samples (
    block          INTEGER NOT NULL,
    gpu            INTEGER NOT NULL,
    ts             INTEGER NOT NULL,        -- ms since the block's min_ts
    util_pct       ANY,                     -- percent
    memory_used_mb ANY,                     -- MiB
    temperature_c  ANY,                     -- degrees Celsius
    power_w        INTEGER,                 -- 1/1000 W
    state          TEXT,
    PRIMARY KEY (block, gpu, ts)
) STRICT, WITHOUT ROWID;

CREATE TABLE heartbeats (
    block          INTEGER NOT NULL,
    hive           INTEGER NOT NULL,
    ts             INTEGER NOT NULL,        -- ms since the block's min_ts
    id             INTEGER NOT NULL,        -- µs since the epoch at receipt
    description    INTEGER NOT NULL,
    workers        INTEGER NOT NULL,        -- number of them
    cpu_pct        INTEGER,                 -- 1/1000 percent
    memory_used_mb ANY,                     -- MiB
    load_1m        INTEGER,                 -- 1/1000
    uptime_s       ANY,                     -- s
    agent_cpu_pct  INTEGER,                 -- 1/1000 percent
    agent_rss_mb   ANY,                     -- MiB
    collect_ms     INTEGER,                 -- 1/1000 ms
    spooled        INTEGER,
    gpu_age_ms     ANY,                     -- ms
    errors         TEXT,                    -- JSON array; NULL for none
    PRIMARY KEY (block, hive, ts)
) STRICT, WITHOUT ROWID;

-- Sums by minute and by hour. One row holds one metric and one bucket of many series, each
-- column an array over the series: a byte of width w (0, 1, 2, 4 or 8), the base as LEB128,
-- then numbers relative to it of w bytes each, little-endian. What belongs to the same bucket
-- and series in several rows adds up.
CREATE TABLE rollup_1m (
    block   INTEGER NOT NULL,
    metric  INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,               -- ms since the epoch, its start
    slice   INTEGER NOT NULL,               -- tells rows of one block, metric and bucket apart
    count   INTEGER NOT NULL,               -- series in it
    series  BLOB NOT NULL,                  -- run, gpu or hive, growing
    n       BLOB NOT NULL,                  -- readings that have the figure
    sum     BLOB NOT NULL,                  -- thousandths, as all that follow
    min     BLOB NOT NULL,
    max     BLOB NOT NULL,
    last    BLOB NOT NULL,
    first   BLOB NOT NULL,
    last_t  BLOB NOT NULL,                  -- ms since the bucket's start, of `last`
    first_t BLOB NOT NULL,                  -- ms since the bucket's start, of `first`
    PRIMARY KEY (block, metric, bucket, slice)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_1h (
    bucket  INTEGER NOT NULL,
    metric  INTEGER NOT NULL,
    block   INTEGER NOT NULL,               -- 0: made from the minutes; else late readings of it
    slice   INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    series  BLOB NOT NULL,
    n       BLOB NOT NULL,
    sum     BLOB NOT NULL,
    min     BLOB NOT NULL,
    max     BLOB NOT NULL,
    last    BLOB NOT NULL,
    first   BLOB NOT NULL,
    last_t  BLOB NOT NULL,
    first_t BLOB NOT NULL,
    PRIMARY KEY (bucket, metric, block, slice)
) STRICT, WITHOUT ROWID;

-- How far the history was sealed and rolled up. One row.
CREATE TABLE progress (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    -- Live rows up to this id and before this time are sealed, deleted or not.
    sealed_id      INTEGER NOT NULL,
    sealed_ts      INTEGER NOT NULL,
    -- Hours before this time (ms since the epoch) stand in rollup_1h.
    rolled_ts      INTEGER NOT NULL
) STRICT;
INSERT INTO progress VALUES (1, 0, 0, 0);

-- What happened, by the time of the heartbeat that showed it.
CREATE TABLE events (
    event  INTEGER PRIMARY KEY,
    ts     INTEGER NOT NULL,                -- ms since the epoch
    kind   TEXT NOT NULL,
    hive   INTEGER,
    worker TEXT,                            -- group/instance
    detail TEXT NOT NULL                    -- JSON object
) STRICT;
CREATE INDEX events_by_time ON events (ts);
