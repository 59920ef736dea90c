SELECT key, revision, create_revision, version, lease, value FROM history WHERE place = ?1
