-- At which page of the file do the live heartbeats begin?
SELECT rootpage AS "root!: u32" FROM sqlite_schema WHERE type = 'table' AND name = 'heartbeats_live'
