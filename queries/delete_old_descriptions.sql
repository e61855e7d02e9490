-- Deletes some of what hives said of themselves last before a day. The newest stays: no number
-- comes twice. ?1: day since the epoch, ?2: how many
DELETE FROM hive_descriptions
 WHERE description IN (SELECT description FROM hive_descriptions
                        WHERE seen < ?1 AND description < (SELECT max(description) FROM hive_descriptions)
                        LIMIT ?2)
