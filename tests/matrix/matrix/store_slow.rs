//! A store that is half a second away.

super::cells! {
    Slow, Tenant:
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
