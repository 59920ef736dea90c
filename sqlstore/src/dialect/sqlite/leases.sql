SELECT id, ttl, expires_ms FROM lease ORDER BY expires_ms, id
