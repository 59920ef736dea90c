SELECT key, mod_revision, create_revision, version, lease, x''
FROM current WHERE key >= ?1
ORDER BY key
