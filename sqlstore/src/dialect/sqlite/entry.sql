SELECT place, mod_revision, create_revision, version, lease, size FROM current WHERE key = ?1
