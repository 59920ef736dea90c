SELECT name, objects, bytes FROM class ORDER BY name
