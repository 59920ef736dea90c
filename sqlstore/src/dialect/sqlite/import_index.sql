CREATE UNIQUE INDEX import.row_by_key ON row (key);
CREATE INDEX import.row_by_revision ON row (mod_revision, key)
