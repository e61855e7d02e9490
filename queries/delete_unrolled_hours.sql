-- Removes what a crash left of an hour that was never made visible. ?1: hours before this (ms) are
DELETE FROM rollup_1h WHERE bucket >= ?1
