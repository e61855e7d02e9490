-- Deletes some rows of a block. ?1: block, ?2: how many
DELETE FROM samples
 WHERE row IN (SELECT s.row
                 FROM blocks AS b
                CROSS JOIN samples AS s ON s.row >= b.first_row AND s.row < b.end_row
                WHERE b.block = ?1 ORDER BY s.row LIMIT ?2)
