//! How much the hub may keep, and give out at once.

/// What the hub may keep.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Of each store's history.
    pub history_bytes: usize,
    pub history_groups: usize,
    /// Of what one chase has read ahead of its watcher.
    pub chase_bytes: usize,
    /// In one response; a single revision may be larger.
    pub batch_bytes: usize,
    pub batch_revisions: usize,
    /// Of what waits in one client stream.
    pub stream_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            history_bytes: 64 << 20,
            history_groups: 200_000,
            chase_bytes: 2 << 20,
            batch_bytes: 1 << 20,
            batch_revisions: 100,
            stream_bytes: 2 << 20,
        }
    }
}
