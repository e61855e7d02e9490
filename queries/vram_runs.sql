-- Which model does each worker run serve, where it is known?
SELECT run, model AS "model!" FROM worker_runs WHERE model IS NOT NULL
