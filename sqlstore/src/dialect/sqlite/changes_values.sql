SELECT key, revision, create_revision, version, lease, value, place
FROM history WHERE place > ?1 AND place <= ?2
ORDER BY place
