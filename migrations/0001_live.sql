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
    hive INTEGER PRIMARY KEY,
    id   INTEGER NOT NULL,                  -- of the heartbeat
    ts   INTEGER NOT NULL                   -- ms since the epoch
) STRICT;

-- One row for each worker and second.
CREATE VIEW history AS
SELECT strftime('%Y-%m-%d %H:%M:%f', h.ts / 1000.0, 'unixepoch') AS ts,
       h.ts                AS ts_ms,
       hives.id            AS hive,
       r."group"           AS "group",
       r.instance          AS instance,
       r.pid               AS pid,
       r.model             AS model,
       s.value ->> 1       AS cpu_pct,
       s.value ->> 2       AS rss_mb,
       s.value ->> 3       AS io_r_mb_s,
       s.value ->> 4       AS io_w_mb_s,
       s.value ->> 6       AS gpu_util_pct,
       s.value ->> 7       AS vram_mb,
       r.total_vram_mb     AS total_vram_mb,
       s.value ->> 5       AS uptime_s,
       s.value ->> 8       AS requests_running,
       s.value ->> 9       AS requests_waiting,
       s.value ->> 10      AS kv_cache_pct
  FROM heartbeats_live AS h
  JOIN hives ON hives.hive = h.hive
  JOIN json_each(h.samples) AS s
  JOIN worker_runs AS r ON r.run = s.value ->> 0;
