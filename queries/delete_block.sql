-- Unlists a block of which nothing is left. ?1: block
DELETE FROM blocks WHERE block = ?1
