SELECT key, place, version FROM history INDEXED BY history_by_key
WHERE key >= ?1
ORDER BY key, place DESC
