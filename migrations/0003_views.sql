-- Views for people: the contract's names, readable time, live and sealed readings alike.
-- A figure that was not known is NULL. They work in sqlite3 3.40 while the queen runs.

-- Live rows that do not stand in a block yet.
CREATE VIEW live_rows AS
SELECT l.id, l.hive, l.ts, l.samples, l.gpus, l.node
  FROM progress AS p
 CROSS JOIN heartbeats_live AS l
 WHERE NOT (l.id <= p.sealed_id AND l.ts < p.sealed_ts);

CREATE VIEW sealed_samples AS
SELECT b.block, b.max_ts AS block_max_ts, b.min_ts + s.ts AS ts_ms, s.run,
       s.cpu_pct / 1000.0      AS cpu_pct,
       s.rss_mb                AS rss_mb,
       s.io_r_mb_s / 1000.0    AS io_r_mb_s,
       s.io_w_mb_s / 1000.0    AS io_w_mb_s,
       s.gpu_util_pct + 0.0    AS gpu_util_pct,
       s.vram_mb               AS vram_mb,
       s.uptime_s              AS uptime_s,
       s.requests_running      AS requests_running,
       s.requests_waiting      AS requests_waiting,
       s.kv_cache_pct / 1000.0 AS kv_cache_pct
  FROM blocks AS b
 CROSS JOIN samples AS s ON s.block = b.block
 WHERE b.raw = 1;

CREATE VIEW live_samples AS
SELECT l.id, l.ts AS ts_ms, s.value ->> 0 AS run,
       (s.value ->> 1) + 0.0  AS cpu_pct,
       s.value ->> 2          AS rss_mb,
       (s.value ->> 3) + 0.0  AS io_r_mb_s,
       (s.value ->> 4) + 0.0  AS io_w_mb_s,
       (s.value ->> 6) + 0.0  AS gpu_util_pct,
       s.value ->> 7          AS vram_mb,
       s.value ->> 5          AS uptime_s,
       s.value ->> 8          AS requests_running,
       s.value ->> 9          AS requests_waiting,
       (s.value ->> 10) + 0.0 AS kv_cache_pct
  FROM live_rows AS l
 CROSS JOIN json_each(l.samples) AS s;

-- One row for each worker and second.
CREATE VIEW history AS
SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts_ms / 1000.0, 'unixepoch') AS ts, s.ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s, s.gpu_util_pct, s.vram_mb, r.total_vram_mb,
       s.uptime_s, s.requests_running, s.requests_waiting, s.kv_cache_pct
  FROM sealed_samples AS s
 CROSS JOIN worker_runs AS r ON r.run = s.run
 CROSS JOIN hives ON hives.hive = r.hive
UNION ALL
SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts_ms / 1000.0, 'unixepoch') AS ts, s.ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s, s.gpu_util_pct, s.vram_mb, r.total_vram_mb,
       s.uptime_s, s.requests_running, s.requests_waiting, s.kv_cache_pct
  FROM live_samples AS s
 CROSS JOIN worker_runs AS r ON r.run = s.run
 CROSS JOIN hives ON hives.hive = r.hive;

-- The same, of the last hour and the last day: blocks from before are not even opened.
CREATE VIEW history_last_hour AS
SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts_ms / 1000.0, 'unixepoch') AS ts, s.ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s, s.gpu_util_pct, s.vram_mb, r.total_vram_mb,
       s.uptime_s, s.requests_running, s.requests_waiting, s.kv_cache_pct
  FROM sealed_samples AS s
 CROSS JOIN worker_runs AS r ON r.run = s.run
 CROSS JOIN hives ON hives.hive = r.hive
 WHERE s.block_max_ts >= (unixepoch('now') - 3600) * 1000
   AND s.ts_ms >= (unixepoch('now') - 3600) * 1000
UNION ALL
SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts_ms / 1000.0, 'unixepoch') AS ts, s.ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s, s.gpu_util_pct, s.vram_mb, r.total_vram_mb,
       s.uptime_s, s.requests_running, s.requests_waiting, s.kv_cache_pct
  FROM live_samples AS s
 CROSS JOIN worker_runs AS r ON r.run = s.run
 CROSS JOIN hives ON hives.hive = r.hive
 WHERE s.ts_ms >= (unixepoch('now') - 3600) * 1000;

CREATE VIEW history_last_day AS
SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts_ms / 1000.0, 'unixepoch') AS ts, s.ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s, s.gpu_util_pct, s.vram_mb, r.total_vram_mb,
       s.uptime_s, s.requests_running, s.requests_waiting, s.kv_cache_pct
  FROM sealed_samples AS s
 CROSS JOIN worker_runs AS r ON r.run = s.run
 CROSS JOIN hives ON hives.hive = r.hive
 WHERE s.block_max_ts >= (unixepoch('now') - 86400) * 1000
   AND s.ts_ms >= (unixepoch('now') - 86400) * 1000
UNION ALL
SELECT strftime('%Y-%m-%d %H:%M:%f', s.ts_ms / 1000.0, 'unixepoch') AS ts, s.ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct, s.rss_mb, s.io_r_mb_s, s.io_w_mb_s, s.gpu_util_pct, s.vram_mb, r.total_vram_mb,
       s.uptime_s, s.requests_running, s.requests_waiting, s.kv_cache_pct
  FROM live_samples AS s
 CROSS JOIN worker_runs AS r ON r.run = s.run
 CROSS JOIN hives ON hives.hive = r.hive
 WHERE s.ts_ms >= (unixepoch('now') - 86400) * 1000;

-- The newest reading of each worker: those in the newest heartbeat of its hive.
CREATE VIEW latest AS
SELECT strftime('%Y-%m-%d %H:%M:%f', n.ts / 1000.0, 'unixepoch') AS ts, n.ts AS ts_ms,
       hives.id AS hive, r."group", r.instance, r.pid, r.model,
       s.cpu_pct / 1000.0 AS cpu_pct, s.rss_mb, s.io_r_mb_s / 1000.0 AS io_r_mb_s,
       s.io_w_mb_s / 1000.0 AS io_w_mb_s, s.gpu_util_pct + 0.0 AS gpu_util_pct, s.vram_mb,
       r.total_vram_mb, s.uptime_s, s.requests_running, s.requests_waiting,
       s.kv_cache_pct / 1000.0 AS kv_cache_pct
  FROM hive_newest AS n
 CROSS JOIN hives ON hives.hive = n.hive
 CROSS JOIN blocks AS b ON b.block = n.block
 CROSS JOIN worker_runs AS r ON r.hive = n.hive
 CROSS JOIN samples AS s ON s.block = n.block AND s.run = r.run AND s.ts = n.ts - b.min_ts
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

-- One row for each heartbeat.
CREATE VIEW hive_heartbeats AS
SELECT h.id, strftime('%Y-%m-%d %H:%M:%f', (b.min_ts + h.ts) / 1000.0, 'unixepoch') AS ts,
       b.min_ts + h.ts AS ts_ms, hives.id AS hive, h.workers,
       h.cpu_pct / 1000.0 AS node_cpu_pct, d.cpu_count AS node_cpu_count,
       h.memory_used_mb AS node_memory_used_mb, d.memory_total_mb AS node_memory_total_mb,
       h.load_1m / 1000.0 AS node_load_1m, h.uptime_s AS node_uptime_s,
       d.agent_version, h.agent_cpu_pct / 1000.0 AS agent_cpu_pct, h.agent_rss_mb,
       h.collect_ms / 1000.0 AS collect_ms, h.spooled, h.gpu_age_ms, h.errors
  FROM blocks AS b
 CROSS JOIN heartbeats AS h ON h.block = b.block
 CROSS JOIN hives ON hives.hive = h.hive
  LEFT JOIN hive_descriptions AS d ON d.description = h.description
 WHERE b.raw = 1
UNION ALL
SELECT l.id, strftime('%Y-%m-%d %H:%M:%f', l.ts / 1000.0, 'unixepoch') AS ts,
       l.ts AS ts_ms, hives.id AS hive, json_array_length(l.samples) AS workers,
       (l.node ->> 1) + 0.0, d.cpu_count, l.node ->> 2, d.memory_total_mb,
       (l.node ->> 3) + 0.0, l.node ->> 4,
       d.agent_version, (l.node ->> 5) + 0.0, l.node ->> 6,
       (l.node ->> 7) + 0.0, l.node ->> 8, l.node ->> 9, l.node -> 10
  FROM live_rows AS l
 CROSS JOIN hives ON hives.hive = l.hive
  LEFT JOIN hive_descriptions AS d ON d.description = l.node ->> 0;

-- One row for each GPU and second.
CREATE VIEW gpu_history AS
SELECT strftime('%Y-%m-%d %H:%M:%f', (b.min_ts + s.ts) / 1000.0, 'unixepoch') AS ts,
       b.min_ts + s.ts AS ts_ms, hives.id AS hive, g.uuid AS gpu, g."index", g.name,
       s.util_pct + 0.0 AS gpu_device_util_pct, s.memory_used_mb AS gpu_memory_used_mb,
       g.memory_total_mb AS gpu_memory_total_mb, s.temperature_c AS gpu_temperature_c,
       s.power_w / 1000.0 AS gpu_power_w, s.state
  FROM blocks AS b
 CROSS JOIN gpu_samples AS s ON s.block = b.block
 CROSS JOIN gpus AS g ON g.gpu = s.gpu
 CROSS JOIN hives ON hives.hive = g.hive
 WHERE b.raw = 1
UNION ALL
SELECT strftime('%Y-%m-%d %H:%M:%f', l.ts / 1000.0, 'unixepoch') AS ts,
       l.ts AS ts_ms, hives.id AS hive, g.uuid AS gpu, g."index", g.name,
       (s.value ->> 1) + 0.0, s.value ->> 2, g.memory_total_mb, s.value ->> 3,
       (s.value ->> 4) + 0.0, s.value ->> 5
  FROM live_rows AS l
 CROSS JOIN json_each(l.gpus) AS s
 CROSS JOIN gpus AS g ON g.gpu = s.value ->> 0
 CROSS JOIN hives ON hives.hive = g.hive;
