SELECT id, ttl, expires_ms FROM lease WHERE id = ?1
