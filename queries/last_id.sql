-- Which is the newest id that was given? 0 if there is none.
SELECT max(ifnull((SELECT max(id) FROM heartbeats_live), 0),
           ifnull((SELECT max(max_id) FROM blocks), 0),
           ifnull((SELECT max(event) FROM events), 0)) AS "id!: i64"
