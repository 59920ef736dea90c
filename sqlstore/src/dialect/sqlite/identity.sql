SELECT schema_version, cluster_id, member_id, raft_term, incarnation FROM identity WHERE one = 1
