//! A network that swallows everything between Keyloom and a store.

super::cells! {
    HalfOpen, Tenant:
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
