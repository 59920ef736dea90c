-- The places follow from the order in which the rows are put into an empty table.
INSERT INTO history (revision, key, create_revision, version, lease, value)
SELECT mod_revision, key, create_revision, version, lease, value
FROM import.row INDEXED BY row_by_revision
WHERE mod_revision <= ?1
ORDER BY mod_revision, key
