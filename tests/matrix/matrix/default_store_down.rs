//! The store that holds the order, for less than the term.

super::cells! {
    Down, Default:
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
