-- The live part of the history: what came in during the last moments, as it came in.
--
-- Heartbeats are appended in order of arrival, one row each, so that a commit only ever writes
-- the end of one table. What changes rarely (names, models, devices) is stored once and
-- referred to by number.

-- Every machine that ever sent a heartbeat.
CREATE TABLE hives (
    hive          INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE      -- its name on the wire
) STRICT;

-- What a hive says of itself and changes rarely. A change appends a row.
CREATE TABLE hive_descriptions (
    description        INTEGER PRIMARY KEY,
    hive               INTEGER NOT NULL,
    hostname           TEXT,
    port               INTEGER,
    operational_status TEXT,
    health_status      TEXT,
    version            TEXT,                -- of the hive's software
    interval_ms        ANY,                 -- ms between heartbeats
    cpu_count          INTEGER,             -- processors
    memory_total_mb    ANY,                 -- MiB
    agent_version      TEXT
) STRICT;

-- One process serving one model on the same devices. Figures with ANY hold whole numbers as
-- INTEGER and others as REAL, so that people read 24576 and not 24576.0.
CREATE TABLE worker_runs (
    run           INTEGER PRIMARY KEY,
    hive          INTEGER NOT NULL,
    "group"       TEXT NOT NULL,
    instance      TEXT NOT NULL,
    pid           INTEGER NOT NULL,
    model         TEXT,
    total_vram_mb ANY                       -- MiB, of the devices that the worker sits on
) STRICT;
CREATE UNIQUE INDEX worker_runs_identity ON worker_runs
    (hive, "group", instance, pid, ifnull(model, ''), ifnull(total_vram_mb, -1));

-- One GPU of one hive.
CREATE TABLE gpus (
    gpu             INTEGER PRIMARY KEY,
    hive            INTEGER NOT NULL,
    uuid            TEXT,
    "index"         INTEGER,                -- its number on the hive
    name            TEXT,
    memory_total_mb ANY                     -- MiB
) STRICT;
CREATE UNIQUE INDEX gpus_identity ON gpus
    (hive, ifnull(uuid, ''), ifnull("index", -1), ifnull(name, ''), ifnull(memory_total_mb, -1));

-- Heartbeats in order of arrival. The arrays are compact JSON; absent figures at the end of
-- an array are left out.
CREATE TABLE heartbeats_live (
    id      INTEGER PRIMARY KEY,            -- µs since the epoch at receipt, growing
    hive    INTEGER NOT NULL,
    ts      INTEGER NOT NULL,               -- ms since the epoch, by the hive's clock
    -- [[run, cpu_pct, rss_mb, io_r_mb_s, io_w_mb_s, uptime_s, gpu_util_pct, vram_mb,
    --   requests_running, requests_waiting, kv_cache_pct, [[gpu, util_pct, vram_mb], …]], …]
    samples TEXT NOT NULL,
    -- [[gpu, util_pct, memory_used_mb, temperature_c, power_w, state], …]
    gpus    TEXT NOT NULL,
    -- [description, cpu_pct, memory_used_mb, load_1m, uptime_s,
    --  agent cpu_pct, agent rss_mb, collect_ms, spooled, gpu_age_ms, [errors]]
    node    TEXT NOT NULL
) STRICT;

-- The newest reading of each hive, by its timestamp.
CREATE TABLE hive_newest (
    hive  INTEGER PRIMARY KEY,
    id    INTEGER NOT NULL,                 -- of the heartbeat
    ts    INTEGER NOT NULL,                 -- ms since the epoch
    block INTEGER                           -- where it was sealed; NULL while it is live
) STRICT;
