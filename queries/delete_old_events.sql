-- Deletes some events that are older than they are kept. ?1: time (ms), ?2: how many
DELETE FROM events WHERE event IN (SELECT event FROM events WHERE ts < ?1 LIMIT ?2)
