INSERT INTO class (name, objects, bytes) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET objects = excluded.objects, bytes = excluded.bytes
