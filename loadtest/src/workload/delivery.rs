//! Whether every watcher hears of every write: of all, once, and in order. The one bookkeeping of the
//! rounds that watch.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{RangeResponse, WatchResponse},
};
use prost::Message as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use crate::{
    connection::{Connection, Streams},
    keyspace::{Resource, end_of},
    request::{Request, watch as watch_request},
};

/// Between two looks at how much was delivered.
const LOOK: Duration = Duration::from_millis(5);

/// What the writers and the watchers of a round count.
#[derive(Debug)]
pub(super) struct Deliveries {
    /// Acknowledged writes, of one key each.
    written: AtomicU64,
    /// Events that watchers have received, all together.
    delivered: AtomicU64,
    /// The round is over, and everything was delivered.
    over: watch::Sender<bool>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            written: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            over: watch::Sender::new(false),
        }
    }
}

impl Deliveries {
    /// One key was written.
    pub(super) fn wrote(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Takes one answer of a watch, whose last event had the revision `last`.
    ///
    /// # Errors
    /// Where the watch was cancelled, and where an event comes twice or out of order.
    pub(super) fn take(&self, answer: &WatchResponse, last: &mut i64) -> Result<()> {
        ensure!(!answer.canceled, "cancelled: {}", answer.cancel_reason);
        for event in &answer.events {
            let kv = event.kv.as_ref().context("an event without a key")?;
            let revision = kv.mod_revision;
            ensure!(revision > *last, "revision {revision} after {last}");
            *last = revision;
        }
        let count = answer.events.len() as u64;
        self.delivered.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until each write was delivered so often, and then ends the watchers, whose next event
    /// never comes. Says how many events that were.
    ///
    /// # Errors
    /// Where one is missing, or one is too many, and why a watcher ended before.
    pub(super) async fn complete<T: 'static>(
        &self,
        times: usize,
        patience: Duration,
        watchers: &mut JoinSet<Result<T>>,
    ) -> Result<u64> {
        let expected = self.written() * times as u64;
        let patience = Instant::now() + patience;
        while self.delivered() < expected {
            // A watcher ends by itself only where something is wrong.
            if let Some(ended) = watchers.try_join_next() {
                ended.context("a watcher's task")??;
            }
            let delivered = self.delivered();
            ensure!(
                Instant::now() < patience,
                "{delivered} events of {expected} were delivered"
            );
            sleep(LOOK).await;
        }
        let delivered = self.delivered();
        ensure!(delivered == expected, "{delivered} events, not {expected}");
        self.over.send_replace(true);
        Ok(expected)
    }

    /// Until the round is over.
    pub(super) async fn over(&self) {
        // Fails where there is no sender, which is here.
        drop(self.over.subscribe().wait_for(|over| *over).await);
    }
}

/// The revision at which a store stands.
///
/// # Errors
/// Where it does not say.
pub(super) async fn revision(connection: &Connection) -> Result<i64> {
    let get = Request::get(&Resource::Watched.prefix().into());
    let answer = RangeResponse::decode(connection.unary(get.rpc, get.frame).await?)?;
    let header = answer.header.context("an answer without a header")?;
    Ok(header.revision)
}

/// A watch of a resource, on a stream of its own.
///
/// # Errors
/// Where it is not created.
pub(crate) async fn open(
    connection: &Connection,
    resource: Resource,
    start: i64,
) -> Result<Streams> {
    let prefix = resource.prefix();
    let create = watch_request(prefix.clone().into(), end_of(&prefix), start);
    let mut stream = connection.stream(Rpc::Watch, create).await?;
    let created = WatchResponse::decode(stream.next().await?)?;
    ensure!(
        created.created && !created.canceled,
        "not created: {}",
        created.cancel_reason
    );
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::mvccpb::{Event, KeyValue};

    use super::*;

    fn message(events: &[i64]) -> WatchResponse {
        let event = |revision: &i64| Event {
            kv: Some(KeyValue {
                mod_revision: *revision,
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            events: events.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn events_come_once_and_in_order() {
        let (deliveries, mut last) = (Deliveries::default(), 0);
        deliveries.take(&message(&[3, 4]), &mut last).unwrap();
        assert_eq!((last, deliveries.delivered()), (4, 2));
        assert!(deliveries.take(&message(&[4]), &mut last).is_err(), "twice");
        assert!(deliveries.take(&message(&[3]), &mut last).is_err(), "back");
        let cancelled = WatchResponse {
            canceled: true,
            ..WatchResponse::default()
        };
        assert!(deliveries.take(&cancelled, &mut last).is_err());
    }

    #[tokio::test]
    async fn a_round_is_over_when_every_watcher_has_everything() {
        let none = Duration::ZERO;
        let mut watchers = JoinSet::<Result<()>>::new();
        let deliveries = Deliveries::default();
        deliveries.wrote();
        deliveries.take(&message(&[1]), &mut 0).unwrap();
        let missing = deliveries.complete(2, none, &mut watchers).await;
        assert!(missing.is_err(), "one watcher has nothing");
        deliveries.take(&message(&[1]), &mut 0).unwrap();
        let all = deliveries.complete(2, none, &mut watchers).await;
        assert_eq!(all.unwrap(), 2);
        deliveries.over().await;
        deliveries.take(&message(&[2]), &mut 1).unwrap();
        let many = deliveries.complete(2, none, &mut watchers).await;
        assert!(many.is_err(), "more than was written");
    }
}
