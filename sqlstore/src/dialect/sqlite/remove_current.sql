DELETE FROM current WHERE key = ?1
