-- Deletes some worker runs that nobody has used since before a day. The newest stays: no number comes twice.
-- ?1: day since the epoch, ?2: how many
DELETE FROM worker_runs
 WHERE run IN (SELECT run FROM worker_runs
                WHERE seen < ?1 AND run < (SELECT max(run) FROM worker_runs) LIMIT ?2)
