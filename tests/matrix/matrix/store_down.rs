//! A store whose connections are reset, and which cannot be reached again for a while.

super::cells! {
    Down, Tenant:
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
