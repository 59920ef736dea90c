INSERT INTO history (place, revision, key, create_revision, version, lease, value)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
