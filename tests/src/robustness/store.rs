//! What a store itself says of its changes, without Keyloom between.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::{
    etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion},
    mvccpb::{Event, KeyValue},
};
use keyloom_testkit::history::Replay;
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use super::LONG;
use crate::{Client, split::everything};

/// A watch over everything in a store, from the beginning of a round.
pub(super) struct StoreView {
    client: Client,
    answers: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
}

/// A change without its revisions: those are the store's own.
#[derive(Debug)]
struct Change {
    kind: i32,
    key: Bytes,
    value: Bytes,
    version: i64,
    lease: i64,
    value_before: Option<Bytes>,
}

impl Change {
    fn of(event: &Event, before: Option<&KeyValue>) -> Self {
        let kv = event.kv.as_ref().expect("an event has a key");
        Self {
            kind: event.r#type,
            key: kv.key.clone(),
            value: kv.value.clone(),
            version: kv.version,
            lease: kv.lease,
            value_before: before.map(|kv| kv.value.clone()),
        }
    }

    /// Whether this is what the store says. The value before may be compacted when it says so.
    fn is_told_of(&self, store: &Self) -> bool {
        let before = store.value_before.is_none() || self.value_before == store.value_before;
        let of = |it: &Self| {
            (
                it.kind,
                it.key.clone(),
                it.value.clone(),
                it.version,
                it.lease,
            )
        };
        before && of(self) == of(store)
    }
}

impl StoreView {
    /// One for each store, from now on.
    pub(super) async fn open_all(urls: &[String]) -> Vec<Self> {
        let mut views = Vec::new();
        for url in urls {
            views.push(Self::open(url).await);
        }
        views
    }

    async fn open(url: &str) -> Self {
        let client = Client::new(url);
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                prev_kv: true,
                ..WatchCreateRequest::default()
            })),
        };
        let requests = stream::iter([create]).chain(stream::pending());
        let answers = client.watch().watch(requests).await;
        let mut answers = answers.expect("a watch on a store").into_inner();
        let created = answers.message().await.expect("an answer");
        assert!(created.is_some_and(|answer| answer.created && !answer.canceled));
        let (tell, told) = mpsc::unbounded_channel();
        // Read as it comes: a connection does not keep many answers that nobody reads.
        tokio::spawn(async move {
            while let Some(answer) = answers.message().await.transpose() {
                if tell.send(answer).is_err() {
                    break;
                }
            }
        });
        Self {
            client,
            answers: told,
        }
    }

    /// Fails where the store did something else to the keys that are `mine` than what Keyloom's
    /// clients were told, or in another order, or put together in other revisions.
    pub(super) async fn compare(mut self, told: &Replay, mine: impl Fn(&[u8]) -> bool) {
        let expected = changes_told(told, &mine);
        let mut got: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        while got.len() < expected.len() {
            let answer = timeout(LONG, self.answers.recv()).await;
            let answer = answer.unwrap_or_else(|_| {
                let (got, of) = (got.len(), expected.len());
                panic!("the store told of {got} revisions, and Keyloom of {of}")
            });
            let answer = answer.expect("more answers").expect("an answer");
            assert!(!answer.canceled, "a watch on a store: {answer:?}");
            for event in answer.events {
                let kv = event.kv.as_ref().expect("an event has a key");
                if mine(&kv.key) && !kv.key.starts_with(b"/_keyloom/") {
                    let change = Change::of(&event, event.prev_kv.as_ref());
                    got.entry(kv.mod_revision).or_default().push(change);
                }
            }
        }
        for (place, (store, (revision, told))) in got.values().zip(&expected).enumerate() {
            let same = |it: &Change| told.iter().any(|told| told.is_told_of(it));
            let same = store.len() == told.len() && store.iter().all(same);
            assert!(
                same,
                "change {place}, told of as revision {revision}: {told:#?}\nthe store: {store:#?}"
            );
        }
        self.compare_state(told, mine).await;
    }

    /// What the store has left of nothing that nobody was told of.
    async fn compare_state(&self, told: &Replay, mine: impl Fn(&[u8]) -> bool) {
        let listed = self.client.kv().range(everything(0)).await;
        let listed = listed.expect("a list").into_inner().kvs.into_iter();
        let listed = listed.filter(|kv| mine(&kv.key) && !kv.key.starts_with(b"/_keyloom/"));
        let told = told.all(told.revision()).into_iter();
        let told = told.filter(|kv| mine(&kv.key));
        let values = |kv: KeyValue| (kv.key, kv.value, kv.version, kv.lease);
        let (listed, told): (Vec<_>, Vec<_>) =
            (listed.map(values).collect(), told.map(values).collect());
        assert_eq!(
            listed, told,
            "what is in the store, and what was told of it"
        );
    }
}

fn changes_told(told: &Replay, mine: impl Fn(&[u8]) -> bool) -> Vec<(i64, Vec<Change>)> {
    let mut expected = Vec::new();
    for revision in told.from() + 1..=told.revision() {
        let of_mine = told.events(revision).iter().filter_map(|event| {
            let kv = event.kv.as_ref()?;
            let before = told.get(&kv.key, revision - 1);
            mine(&kv.key).then(|| Change::of(event, before))
        });
        let of_mine: Vec<_> = of_mine.collect();
        if !of_mine.is_empty() {
            expected.push((revision, of_mine));
        }
    }
    expected
}
