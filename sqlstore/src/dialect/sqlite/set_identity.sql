INSERT INTO identity (one, schema_version, cluster_id, member_id, raft_term, incarnation)
VALUES (1, ?1, ?2, ?3, ?4, ?5)
ON CONFLICT (one) DO UPDATE SET
    schema_version = excluded.schema_version,
    cluster_id = excluded.cluster_id,
    member_id = excluded.member_id,
    raft_term = excluded.raft_term,
    incarnation = excluded.incarnation
