-- Removes what a crash left of a block that was never listed. ?1: the newest listed block
DELETE FROM sample_index WHERE block > ?1
