-- Whose file is this? (application_id: 0 where nobody says; tables: some of them, NULL for none;
-- is_ours: they are the history's. Files from before application_id have 0, too)
SELECT (SELECT application_id + 0 FROM pragma_application_id()) AS "application_id!: i64",
       EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'heartbeats_live') AS "is_ours!: bool",
       (SELECT group_concat(name, ', ')
          FROM (SELECT name FROM sqlite_schema
                 WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
                   AND name <> '_sqlx_migrations'
                 ORDER BY name LIMIT 3)) AS "tables: String"
