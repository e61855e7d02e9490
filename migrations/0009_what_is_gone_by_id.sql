-- Finds up to which id single readings are gone, or going.
CREATE INDEX blocks_gone ON blocks (max_id) WHERE raw <> 1;
