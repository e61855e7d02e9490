-- Up to which id is something gone that was recorded after an id? (0: nothing is) ?1: id
SELECT max(ifnull((SELECT max(max_id) FROM blocks WHERE raw <> 1 AND max_id > ?1), 0),
           ifnull((SELECT min_id - 1 FROM (SELECT block, min_id FROM blocks ORDER BY block LIMIT 1)
                    WHERE block > 1 AND min_id - 1 > ?1), 0)) AS "id!: i64"
