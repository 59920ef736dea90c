INSERT INTO lease (id, ttl, expires_ms) VALUES (?1, ?2, ?3)
ON CONFLICT (id) DO UPDATE SET ttl = excluded.ttl, expires_ms = excluded.expires_ms
