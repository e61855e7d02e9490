-- Hides the single readings of a block from all readers, to delete them. ?1: block
UPDATE blocks SET raw = 2 WHERE block = ?1
