//! What works behind the order of several stores, from the start of an instance to its end,
//! whichever topology is served.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    feeds::{Feeding, Feeds, WatchOptions},
    metrics::TopologyMetrics,
    order::{Keeper, Merged},
    snapshot::ServingSnapshot,
};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct MergedRuntime {
    pub(crate) order: Arc<Merged>,
    pub(crate) keeper: Keeper,
    feeding: Feeding,
}

impl MergedRuntime {
    /// Begins to follow the stores of the first snapshot, until `stop` is cancelled or the runtime
    /// is dropped.
    pub(crate) fn start(
        order: Arc<Merged>,
        keeper: Keeper,
        snapshot: &ServingSnapshot,
        options: &WatchOptions,
        metrics: TopologyMetrics,
        stop: &CancellationToken,
    ) -> Self {
        let feeding = Feeding::start(&order, snapshot, options, metrics, stop);
        Self {
            order,
            keeper,
            feeding,
        }
    }

    pub(crate) fn feeds(&self) -> &Arc<Feeds> {
        &self.feeding.feeds
    }
}
