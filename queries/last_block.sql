-- Which is the newest block, and which row of `samples` comes after its last one?
SELECT block, end_row FROM blocks ORDER BY block DESC LIMIT 1
