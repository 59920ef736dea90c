//! A store that is killed and comes back.

super::cells! {
    Restarted, Tenant:
    write Write,
    compare_and_write Cas,
    list List,
    pages Pages,
    watch Watch,
    progress Progress,
    keep_alive KeepAlive,
    reload Reload,
    compaction Compaction,
}
