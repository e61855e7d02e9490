-- Notes that what a hive says of itself is still so. ?1: description, ?2: until which day since the epoch
UPDATE hive_descriptions SET seen = ?2 WHERE description = ?1
