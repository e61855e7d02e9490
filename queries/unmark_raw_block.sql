-- The single readings of a block are gone. ?1: block
UPDATE blocks SET raw = 0 WHERE block = ?1
