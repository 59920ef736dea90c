INSERT INTO current (key, place, mod_revision, create_revision, version, lease, size)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (key) DO UPDATE SET
    place = excluded.place,
    mod_revision = excluded.mod_revision,
    create_revision = excluded.create_revision,
    version = excluded.version,
    lease = excluded.lease,
    size = excluded.size
