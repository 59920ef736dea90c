SELECT place, version FROM history INDEXED BY history_by_key
WHERE key = ?1 AND place <= ?2
ORDER BY place DESC LIMIT 1
