-- Which block was marked for deletion and may still have rows? raw: 2
SELECT block FROM blocks WHERE raw = 2 LIMIT 1
