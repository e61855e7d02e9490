-- Deletes some GPUs that nobody has used since before a day. The newest stays: no number comes twice.
-- ?1: day since the epoch, ?2: how many
DELETE FROM gpus
 WHERE gpu IN (SELECT gpu FROM gpus
                WHERE seen < ?1 AND gpu < (SELECT max(gpu) FROM gpus) LIMIT ?2)
