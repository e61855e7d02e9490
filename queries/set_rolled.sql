-- Makes the hours before a time visible among the hours. ?1: time (ms)
UPDATE progress SET rolled_ts = ?1
