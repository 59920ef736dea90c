SELECT count(*) FROM current WHERE key >= ?1
