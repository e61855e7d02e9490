-- Which hives are there, as a JSON array of [hive, id]? ?1: only the one of this name, or NULL for all
SELECT json_group_array(json_array(hive, id)) AS "hives!: String"
  FROM (SELECT hive, id FROM hives WHERE ?1 IS NULL
         UNION ALL
        SELECT hive, id FROM hives WHERE id = ?1)
