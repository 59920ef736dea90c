//! One watch of one client, as the hub knows it.

use keyloom_ledger::{StoreSlot, UnifiedRev};

use crate::{StreamId, TopicId, chase::Chase};

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) stream: StreamId,
    pub(crate) topic: TopicId,
    /// Everything up to here was taken.
    pub(crate) cursor: UnifiedRev,
    /// Whether it wants what events replaced.
    pub(crate) previous: bool,
    pub(crate) chases: Vec<Chase>,
    /// Whether it stands in its stream's list.
    pub(crate) is_ready: bool,
    /// The history that it needs is gone below this `u`.
    pub(crate) compacted: Option<UnifiedRev>,
}

impl Watcher {
    pub(crate) fn chase(&self, slot: StoreSlot) -> Option<&Chase> {
        self.chases.iter().find(|chase| chase.slot == slot)
    }
}
