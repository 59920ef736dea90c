SELECT key FROM current WHERE lease = ?1 AND lease <> 0 ORDER BY key
