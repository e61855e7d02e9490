-- Finds whether a hive was last seen to come or to go.
CREATE INDEX events_of_hives ON events (hive, event) WHERE kind IN ('hive_online', 'hive_offline');
