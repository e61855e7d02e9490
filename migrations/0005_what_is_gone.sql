-- Finds the blocks of a range of time whose single readings are gone, or going.
DROP INDEX blocks_without_raw;
CREATE INDEX blocks_summed ON blocks (max_ts, min_ts) WHERE raw <> 1;

-- From here on (ms since the epoch) the sums by minute are whole: before it some are gone, or going.
ALTER TABLE progress ADD COLUMN minutes_ts INTEGER NOT NULL DEFAULT 0;
UPDATE progress SET minutes_ts = ifnull((SELECT min(max_ts) FROM blocks HAVING min(block) > 1), 0);
