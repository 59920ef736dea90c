-- Schema version 2: counts are kept, so that opening does not read every key. They are those of
-- the newest change where `counted` is the next place; the first opening counts.
CREATE TABLE block (
    start BLOB PRIMARY KEY,
    keys INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE class (
    name BLOB PRIMARY KEY,
    objects INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE marks ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
