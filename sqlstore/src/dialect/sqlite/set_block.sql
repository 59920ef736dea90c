INSERT INTO block (start, keys) VALUES (?1, ?2)
ON CONFLICT (start) DO UPDATE SET keys = excluded.keys
