//! A store whose process is stopped: its connections stay open.

super::cells! {
    Hung, Tenant:
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
