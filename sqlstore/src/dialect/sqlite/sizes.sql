SELECT key, size FROM current ORDER BY key
