//! The alarm for writes that came to a store after their keys had moved.

use std::sync::Arc;

use tracing::error;

use super::Feeds;
use crate::snapshot::ServingStore;

/// Tells of those since the last time.
pub(super) fn report(feeds: &Arc<Feeds>, member: &ServingStore) {
    for late in feeds.with(|hub, _| hub.take_late()) {
        // Another store's may be among them: the log has its slot.
        feeds.metrics.late_write(&member.name);
        error!(
            store = member.name,
            slot = %late.slot,
            revision = late.revision.get(),
            key = %late.key.escape_ascii(),
            "a write reached a store after its key had moved to another one; no client sees it. \
             It was running when the route changed, or somebody writes to the store directly"
        );
    }
}
