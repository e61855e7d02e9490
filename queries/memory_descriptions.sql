-- How much memory do the hives say they have? Two lists: description, MiB
SELECT group_concat(description) AS "descriptions: String",
       group_concat(memory_total_mb) AS "figures: String"
  FROM hive_descriptions
 WHERE memory_total_mb IS NOT NULL
