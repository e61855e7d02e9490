-- How far is the history sealed and rolled up?
SELECT sealed_id, sealed_ts, rolled_ts FROM progress
