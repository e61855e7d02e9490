-- Until which day (since the epoch) the queen may use a name's number without looking it up again:
-- one whose day is before everything that is kept is referred to by nothing, and goes.
ALTER TABLE worker_runs ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
UPDATE worker_runs SET seen = unixepoch() / 86400;
CREATE INDEX worker_runs_seen ON worker_runs (seen);

ALTER TABLE gpus ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
UPDATE gpus SET seen = unixepoch() / 86400;
CREATE INDEX gpus_seen ON gpus (seen);

ALTER TABLE hive_descriptions ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
UPDATE hive_descriptions SET seen = unixepoch() / 86400;
CREATE INDEX hive_descriptions_seen ON hive_descriptions (seen);

-- Finds whether a hive was last seen to come or to go, without looking at the event itself.
DROP INDEX events_of_hives;
CREATE INDEX events_of_hives ON events (hive, event, kind) WHERE kind IN ('hive_online', 'hive_offline');
