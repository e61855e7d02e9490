-- Removes what was found to have changed at a reading. ?1: hive, ?2: time (ms)
DELETE FROM events
 WHERE ts = ?2 AND hive = ?1
   AND kind IN ('worker_started', 'worker_exited', 'model_changed', 'agent_restarted', 'gpu_lost')
