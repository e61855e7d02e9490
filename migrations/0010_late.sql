-- Whether a heartbeat was late data when it came: its hive had a newer reading already. A stream says
-- so, and a replay of it must say the same whatever has been deleted since. What was stored
-- before this column counts as in time.
ALTER TABLE heartbeats_live ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heartbeats ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
