SELECT key, revision, create_revision, version, lease, x'' FROM history WHERE place = ?1
