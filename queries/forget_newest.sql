-- Forgets the newest readings that stood in a block whose readings are gone. ?1: block
DELETE FROM hive_newest WHERE block = ?1
