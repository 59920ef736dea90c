//! What holds an answer back.

use std::{sync::Arc, time::Duration};

use keyloom_ledger::{Ledger, StoreStart};
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::{Dispatch, Subscriber, debug_span, span};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use super::*;

const TENANT: StoreSlot = StoreSlot::new(1);

/// Two empty stores, a leadership of an hour, and revisions up to `reserved`.
fn merged(reserved: i64) -> Merged {
    let store = |name: &str| StoreStart {
        name: name.to_owned(),
        cluster_id: 1,
        at: StoreRev::FIRST,
    };
    let merged = Merged::new(Ledger::start(&[store("default"), store("tenant")]));
    merged.change(|ordered| {
        ordered.leadership.until = Instant::now() + Duration::from_secs(3600);
        ordered.leadership.reserved = UnifiedRev::new(reserved);
    });
    merged
}

fn wrote(slot: StoreSlot, revision: i64) -> Answered {
    Answered {
        slot,
        revision: StoreRev::new(revision),
        wrote: true,
        known: None,
        is_delivery: false,
    }
}

async fn sequenced(merged: &Merged, answered: Answered) -> Option<i64> {
    let sequenced = timeout(Duration::from_secs(1), merged.sequence(answered)).await;
    sequenced
        .ok()
        .map(|sequenced| sequenced.unwrap().unified.get())
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_above_the_reservation() {
    let merged = merged(2);
    assert_eq!(sequenced(&merged, wrote(TENANT, 2)).await, Some(2));
    assert_eq!(sequenced(&merged, wrote(TENANT, 3)).await, None);
    merged.change(|ordered| ordered.leadership.reserved = UnifiedRev::new(3));
    assert_eq!(sequenced(&merged, wrote(TENANT, 3)).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn newer_answers_of_the_default_store_wait_for_an_own_write() {
    let merged = merged(100);
    assert_eq!(
        sequenced(&merged, wrote(StoreSlot::DEFAULT, 2)).await,
        Some(2)
    );
    merged.change(|ordered| ordered.leadership.own_write = true);
    assert_eq!(sequenced(&merged, wrote(StoreSlot::DEFAULT, 4)).await, None);
    assert_eq!(
        sequenced(&merged, wrote(StoreSlot::DEFAULT, 2)).await,
        Some(2),
        "known already"
    );
    assert_eq!(
        sequenced(&merged, wrote(TENANT, 2)).await,
        Some(3),
        "another store"
    );
    merged.change(|ordered| {
        ordered.sequence.ledger.hide(StoreRev::new(3));
        ordered.leadership.own_write = false;
    });
    assert_eq!(
        sequenced(&merged, wrote(StoreSlot::DEFAULT, 4)).await,
        Some(4)
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_that_must_be_written_holds_everything_back() {
    let merged = merged(100);
    merged.change(|ordered| ordered.leadership.must_record = true);
    assert_eq!(merged.may_leave(), Err(OrderError::Recording));
    let waits = timeout(Duration::from_secs(1), merged.until_may_leave());
    assert!(waits.await.is_err());
    assert_eq!(sequenced(&merged, wrote(TENANT, 2)).await, None);
    merged.change(|ordered| ordered.leadership.must_record = false);
    assert_eq!(merged.until_may_leave().await, Ok(()));
    assert_eq!(sequenced(&merged, wrote(TENANT, 2)).await, Some(2));
}

/// Two stores were absent when the order was lost, and return at the same time.
#[tokio::test(start_paused = true)]
async fn a_store_that_returns_with_nothing_new_lets_out_no_other_s_return() {
    let clean = Ledger::start(&["default", "tenant", "other"].map(|name| StoreStart {
        name: name.to_owned(),
        cluster_id: 1,
        at: StoreRev::FIRST,
    }));
    let seal = keyloom_ledger::Seal {
        reserved: UnifiedRev::new(100),
        ..keyloom_ledger::Seal::default()
    };
    let flush = clean.flush(&keyloom_ledger::Mark::new(), &seal);
    let records: Vec<_> = flush
        .puts
        .iter()
        .map(|(name, record)| (name.as_str(), &record[..]))
        .collect();
    let restored = Ledger::restore(&records, StoreRev::new(2)).unwrap();
    let observed = [(StoreSlot::DEFAULT, StoreRev::new(2))];
    let recovery = keyloom_ledger::recover(restored, &observed).unwrap();
    assert_eq!(recovery.absent, [TENANT, StoreSlot::new(2)]);
    let merged = Merged::new(recovery.ledger);
    merged.change(|ordered| ordered.leadership.until = Instant::now() + Duration::from_secs(3600));
    assert!(
        merged
            .return_of(TENANT, StoreRev::new(5))
            .unwrap()
            .is_some()
    );
    let nothing_new = merged.return_of(StoreSlot::new(2), StoreRev::FIRST);
    assert_eq!(nothing_new.unwrap(), None);
    assert_eq!(merged.may_leave(), Err(OrderError::Recording));
}

/// A cut needs no answer of a store that would wait for the reservation.
#[tokio::test(start_paused = true)]
async fn no_cut_is_above_the_reservation() {
    let merged = merged(3);
    assert_eq!(sequenced(&merged, wrote(TENANT, 9)).await, None);
    assert_eq!(merged.head(), UnifiedRev::new(3));
    let cut = merged.cut(0, [TENANT]).unwrap();
    assert_eq!(
        (cut.at, cut.of(TENANT)),
        (UnifiedRev::new(3), Some(StoreRev::new(3)))
    );
    assert_eq!(merged.cut(4, []).err(), Some(EtcdError::FutureRev));
}

#[tokio::test(start_paused = true)]
async fn the_header_of_a_read_lies_below_what_it_did_not_see() {
    let merged = merged(100);
    assert_eq!(sequenced(&merged, wrote(TENANT, 3)).await, Some(3));
    let read = Answered {
        wrote: false,
        ..wrote(TENANT, 2)
    };
    assert_eq!(
        sequenced(&merged, read).await,
        Some(2),
        "the store's next revision is at 3"
    );
    let empty = Answered {
        wrote: false,
        ..wrote(StoreSlot::DEFAULT, 1)
    };
    assert_eq!(
        sequenced(&merged, empty).await,
        Some(3),
        "the head: the store has nothing newer"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_past_the_leadership() {
    let merged = merged(100);
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(merged.may_leave(), Ok(()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(merged.may_leave(), Err(OrderError::LeadershipOver));
    assert_eq!(merged.admit(TENANT), Err(OrderError::LeadershipOver));
}

#[tokio::test(start_paused = true)]
async fn by_delivery_answers_wait_for_the_stores_watch() {
    let merged = merged(100);
    let by_delivery = merged.by_delivery([TENANT]);
    assert_eq!(sequenced(&merged, wrote(TENANT, 2)).await, None);
    let other = sequenced(&merged, wrote(StoreSlot::DEFAULT, 2)).await;
    assert_eq!(other, Some(2), "another store");
    let delivered = Answered {
        wrote: false,
        is_delivery: true,
        ..wrote(TENANT, 2)
    };
    assert_eq!(sequenced(&merged, delivered).await, Some(3));
    assert_eq!(sequenced(&merged, wrote(TENANT, 2)).await, Some(3), "known");
    drop(by_delivery);
    assert_eq!(sequenced(&merged, wrote(TENANT, 3)).await, Some(4));
}

/// Every call asks as its last step; the lock is for when something is wrong.
#[tokio::test(start_paused = true)]
async fn whether_an_answer_may_leave_is_known_without_the_lock() {
    let merged = merged(100);
    assert!(merged.may_leave.is_certain());
    merged.change(|ordered| ordered.leadership.must_record = true);
    assert!(!merged.may_leave.is_certain());
    merged.change(|ordered| ordered.leadership.must_record = false);
    assert!(merged.may_leave.is_certain());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(!merged.may_leave.is_certain());
    merged.change(|ordered| {
        ordered.leadership.until = Instant::now() + Duration::from_secs(1);
    });
    assert!(merged.may_leave.is_certain());
    merged.stop("a test");
    assert!(!merged.may_leave.is_certain());
}

/// The names of the spans that were made.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Vec<&'static str>>>);

impl<S: Subscriber> Layer<S> for Made {
    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.0.lock().push(span.metadata().name());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_call_has_a_span_while_it_waits_and_only_then() {
    let made = Made::default();
    let subscriber = tracing_subscriber::registry().with(made.clone());
    let _subscribed = tracing::subscriber::set_default(subscriber);
    // While there is one subscriber, `tracing` decides for all threads by that of the thread that comes
    // to a span first: here, of another test, which has none.
    let _second = Dispatch::new(tracing_subscriber::registry());
    let merged = merged(2);
    let call = debug_span!(target: telemetry::TARGET, "call");
    let at_once = sequenced(&merged, wrote(TENANT, 2));
    assert_eq!(at_once.instrument(call.clone()).await, Some(2));
    let waits = sequenced(&merged, wrote(TENANT, 3));
    assert_eq!(waits.await, None, "of no call");
    assert_eq!(*made.0.lock(), ["call"]);
    let waits = sequenced(&merged, wrote(TENANT, 3));
    assert_eq!(waits.instrument(call).await, None);
    assert_eq!(*made.0.lock(), ["call", "revision wait"]);
}
