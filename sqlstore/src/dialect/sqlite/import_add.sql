INSERT INTO import.row (key, mod_revision, create_revision, version, lease, value)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
