//! What a store may take, whatever stands behind it.

use tokio::time::Duration;

/// What can be chosen about a store on any dialect.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// In messages, logs and metrics.
    pub name: String,
    /// Statements that take longer are logged.
    pub slow_statement: Duration,
    /// How many threads read for small calls, and as many again for large ones.
    pub readers: usize,
    /// How many requests may wait for the writer.
    pub write_queue: usize,
    /// How many bytes of the newest events are kept in memory for watches.
    pub feed_bytes: usize,
    /// How often watches that asked for it hear that nothing happened; etcd's
    /// `--watch-progress-notify-interval`. 5 s is what Kubernetes sets for its etcds.
    pub progress_interval: Duration,
    /// The largest request that writes; etcd's `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// The most operations in a transaction; etcd's `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// What the member list tells clients to connect to.
    pub client_urls: Vec<String>,
}

impl StoreOptions {
    /// The defaults for a store of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            slow_statement: Duration::from_millis(100),
            readers: 2,
            write_queue: 4096,
            feed_bytes: 32 << 20,
            progress_interval: Duration::from_secs(5),
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            client_urls: Vec::new(),
        }
    }
}
