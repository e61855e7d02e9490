-- Says that minutes up to a time are not whole any more. ?1: time (ms)
UPDATE progress SET minutes_ts = max(minutes_ts, ?1 + 1)
