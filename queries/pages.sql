-- How large is the file? total and free: pages; size: bytes of one
SELECT (SELECT page_count + 0 FROM pragma_page_count()) AS "total!: i64",
       (SELECT freelist_count + 0 FROM pragma_freelist_count()) AS "free!: i64",
       (SELECT page_size + 0 FROM pragma_page_size()) AS "size!: i64"
