SELECT c.key, c.mod_revision, c.create_revision, c.version, c.lease, h.value
FROM current AS c CROSS JOIN history AS h ON h.place = c.place
WHERE c.key >= ?1
ORDER BY c.key
