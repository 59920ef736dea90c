SELECT count(*) FROM current WHERE key >= ?1 AND key < ?2
