-- Schema version 1. Applied in one transaction to an empty database.

-- Who the store is.
CREATE TABLE identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    schema_version INTEGER NOT NULL,
    cluster_id INTEGER NOT NULL,
    member_id INTEGER NOT NULL,
    raft_term INTEGER NOT NULL,
    incarnation INTEGER NOT NULL
);

-- Where it stands. Written in each transaction that writes.
CREATE TABLE marks (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    next_place INTEGER NOT NULL,
    compacted INTEGER NOT NULL,
    swept INTEGER NOT NULL
);
INSERT INTO marks VALUES (1, 1, 1, -1, 0);

-- Every change, in the order of commits. Version 0 is a deletion.
CREATE TABLE history (
    place INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB NOT NULL
);
-- Reads at old revisions and counts of them need nothing but this index.
CREATE UNIQUE INDEX history_by_key ON history (key, place DESC, version);

-- The living keys. The value stays in the history, so that it is written once.
CREATE TABLE current (
    key BLOB PRIMARY KEY,
    place INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX current_by_lease ON current (lease, key) WHERE lease <> 0;

CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    ttl INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
);
