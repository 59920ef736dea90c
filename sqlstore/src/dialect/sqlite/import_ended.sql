-- Leases that keys name and that were gone when the leases were read: they end at once.
INSERT INTO lease (id, ttl, expires_ms)
SELECT DISTINCT lease, ?1, ?2 FROM current
WHERE lease <> 0 AND lease NOT IN (SELECT id FROM lease)
