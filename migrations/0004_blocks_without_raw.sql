-- Finds the blocks of a range of time whose single readings are gone; blocks_by_time has the others.
CREATE INDEX blocks_without_raw ON blocks (max_ts, min_ts) WHERE raw = 0;
