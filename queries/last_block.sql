-- Which is the newest block? 0 if there is none.
SELECT ifnull(max(block), 0) AS "block!: i64" FROM blocks
