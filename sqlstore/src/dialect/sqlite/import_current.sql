INSERT INTO current (key, place, mod_revision, create_revision, version, lease, size)
SELECT key, place, revision, create_revision, version, lease, length(value)
FROM history INDEXED BY history_by_key
ORDER BY key
