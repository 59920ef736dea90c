//! What the writer, the readers and the streams of one store share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64},
};

use keyloom_environment::Random;
use keyloom_etcd_api::etcdserverpb::ResponseHeader;

use crate::{
    clock::WallClock,
    error::Origin,
    feed::Feed,
    key_counts::KeyCounts,
    metrics::StoreMetrics,
    options::StoreOptions,
    session::{HighWaterMark, Identity},
    usage::Usages,
    wire,
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) origin: Arc<Origin>,
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) metrics: Arc<StoreMetrics>,
    pub(crate) feed: Feed,
    pub(crate) key_counts: KeyCounts,
    pub(crate) usages: Usages,
    pub(crate) given_out: Box<dyn HighWaterMark>,
    /// When the next lease ends; the writer's, for the timer.
    pub(crate) next_end: AtomicI64,
    /// Whether the last write found no space.
    pub(crate) full: AtomicBool,
}

impl Shared {
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        wire::header(&self.identity, revision)
    }

    /// Notes a committed revision, before anybody hears of it.
    pub(crate) fn note(&self, revision: i64) {
        self.given_out.note(revision);
    }
}
