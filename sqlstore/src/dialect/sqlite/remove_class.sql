DELETE FROM class WHERE name = ?1
