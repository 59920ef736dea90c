SELECT key, revision, create_revision, version, lease, value
FROM history WHERE key = ?1 AND place <= ?2
ORDER BY place DESC LIMIT 1
