-- Removes what a crash left of a block that was never listed. ?1: the row after those of listed blocks
DELETE FROM samples WHERE row >= ?1
