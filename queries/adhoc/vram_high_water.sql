-- How much VRAM does each model really need? The most that a worker of it took in the last day.
-- model; vram_mb; at: when (UTC); worker: which one; headroom_mb: what was left of its devices.
SELECT model, max(vram_mb) AS vram_mb, ts AS at, hive || '/' || "group" || '/' || instance AS worker,
       total_vram_mb - vram_mb AS headroom_mb
  FROM history_last_day
 WHERE model IS NOT NULL AND vram_mb IS NOT NULL
 GROUP BY model
 ORDER BY vram_mb DESC;
