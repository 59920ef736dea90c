//! A client that writes, keeps what it was told, and knows what must be there in the end.
//!
//! Its keys are its own, so that each has one history; the counters are everybody's.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use keyloom_etcd_api::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
        TxnRequest, compare, request_op::Request,
    },
    mvccpb::KeyValue,
};
use keyloom_etcd_client::Answered as _;
use keyloom_testkit::program::Chance;
use tonic::{Code, Status};

use super::{board::Line, book::Book};
use crate::{client::Client, stage::KEYS};

/// Keys of one writer on one store.
const KEYS_EACH: usize = 3;

/// Between two calls, at most: the tests are about failures, not about load.
const LONGEST_PAUSE: i64 = 12;

/// What is known of one key.
#[derive(Debug, Default)]
struct Known {
    /// The last write that was acknowledged; `None` is a delete, or nothing yet.
    write: Option<String>,
    /// Its revision as it was told.
    revision: i64,
    /// Writes whose outcome is unknown: they may take effect at any time.
    maybe: BTreeSet<Option<String>>,
}

/// One writer, and its account.
#[derive(Debug)]
pub struct Writer {
    name: String,
    chance: Chance,
    line: Line,
    book: Arc<Book>,
    sequence: u64,
    known: BTreeMap<String, Known>,
    counts: BTreeSet<(String, i64)>,
    pub acknowledged: u64,
    pub unknown: u64,
    pub counted: u64,
    pub maybe_counted: u64,
    pub conflicts: u64,
}

/// How a call ended.
enum End<T> {
    Answered(T),
    Unknown,
}

impl Writer {
    #[must_use]
    pub fn new(number: usize, seed: u64, line: Line, book: Arc<Book>) -> Self {
        let offset = u64::try_from(number).expect("few");
        Self {
            name: format!("w{number}"),
            chance: Chance::new(seed * 31 + offset),
            line,
            book,
            sequence: 0,
            known: BTreeMap::new(),
            counts: BTreeSet::new(),
            acknowledged: 0,
            unknown: 0,
            counted: 0,
            maybe_counted: 0,
            conflicts: 0,
        }
    }

    /// Writes until it is told to end.
    pub async fn work(mut self) -> Self {
        while !self.line.is_held() {
            let Some(client) = self.line.connected().await else {
                break;
            };
            match self.chance.below(100) {
                0..55 => self.put(&client).await,
                55..70 => self.put_two(&client).await,
                70..80 => self.delete(&client).await,
                _ => self.count(&client).await,
            }
            let pause = self.chance.between(1, LONGEST_PAUSE);
            tokio::time::sleep(Duration::from_millis(pause.unsigned_abs())).await;
        }
        self
    }

    fn key(&mut self) -> (usize, String) {
        let store = self.chance.below(KEYS.len());
        let number = self.chance.below(KEYS_EACH);
        (store, format!("{}/{}-{number}", KEYS[store], self.name))
    }

    fn write_id(&mut self) -> String {
        self.sequence += 1;
        format!("{}#{}", self.name, self.sequence)
    }

    /// One call; whatever went wrong, a call that may have reached a store may have taken effect.
    async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> End<T> {
        match self.line.unless_moved(call).await {
            None => End::Unknown,
            Some(Ok(answer)) => End::Answered(answer.into_inner()),
            Some(Err(status)) => {
                if !is_of_the_endpoint(&status) {
                    self.book.fault(format!("{}: {status}", self.name));
                }
                // The endpoint is gone, most likely: no need to hammer at its place.
                tokio::time::sleep(Duration::from_millis(20)).await;
                End::Unknown
            }
        }
    }

    fn acknowledged(&mut self, before: i64, header: Option<ResponseHeader>, write: &str) -> i64 {
        let revision = header.expect("a header").revision;
        self.book.wrote(before, revision, write);
        self.book.tell(revision, write, &self.name);
        self.acknowledged += 1;
        revision
    }

    fn keep(&mut self, key: String, write: Option<String>, revision: Option<i64>) {
        let known = self.known.entry(key).or_default();
        match revision {
            Some(revision) => (known.write, known.revision) = (write, revision),
            None => {
                self.unknown += 1;
                known.maybe.insert(write);
            }
        }
    }

    async fn put(&mut self, client: &Client) {
        let ((_, key), write) = (self.key(), self.write_id());
        let before = self.book.shown();
        let mut kv = client.kv();
        let told = match self.call(kv.put(put(&key, &write))).await {
            End::Answered(answer) => Some(self.acknowledged(before, answer.header, &write)),
            End::Unknown => None,
        };
        self.keep(key, Some(write), told);
    }

    /// Two keys of one store at one revision.
    async fn put_two(&mut self, client: &Client) {
        let (store, write) = (self.chance.below(KEYS.len()), self.write_id());
        let keys: Vec<_> = (0..2)
            .map(|number| format!("{}/{}-{number}", KEYS[store], self.name))
            .collect();
        let puts = keys.iter().map(|key| Request::RequestPut(put(key, &write)));
        let txn = TxnRequest {
            success: puts.map(op).collect(),
            ..TxnRequest::default()
        };
        let before = self.book.shown();
        let mut kv = client.kv();
        let told = match self.call(kv.txn(txn)).await {
            End::Answered(answer) => Some(self.acknowledged(before, answer.header, &write)),
            End::Unknown => None,
        };
        for key in keys {
            self.keep(key, Some(write.clone()), told);
        }
    }

    async fn delete(&mut self, client: &Client) {
        let (_, key) = self.key();
        let delete = DeleteRangeRequest {
            key: key.clone().into(),
            prev_kv: true,
            ..DeleteRangeRequest::default()
        };
        let before = self.book.shown();
        let mut kv = client.kv();
        match self.call(kv.delete_range(delete)).await {
            End::Unknown => self.keep(key, None, None),
            End::Answered(answer) => {
                let Some(previous) = answer.prev_kvs.first() else {
                    // Nothing was there, and nothing was written.
                    let revision = answer.header.expect("a header").revision;
                    self.book.read(before, revision, &self.name);
                    return self.keep(key, None, Some(0));
                };
                let write = delete_of(&previous.value);
                let revision = self.acknowledged(before, answer.header, &write);
                self.keep(key, None, Some(revision));
            }
        }
    }

    /// Adds one to a counter, if nobody else did meanwhile.
    async fn count(&mut self, client: &Client) {
        let key = format!("{}/counter", KEYS[self.chance.below(KEYS.len())]);
        let get = RangeRequest {
            key: key.clone().into(),
            ..RangeRequest::default()
        };
        let before = self.book.shown();
        let mut kv = client.kv();
        let End::Answered(answer) = self.call(kv.range(get)).await else {
            return;
        };
        let revision = answer.header.expect("a header").revision;
        self.book.read(before, revision, &self.name);
        let (at, count) = answer
            .kvs
            .first()
            .map_or((0, 0), |kv| (kv.mod_revision, count_of(kv)));
        let write = format!("{} {}", count + 1, self.write_id());
        let txn = TxnRequest {
            compare: vec![unchanged(&key, at)],
            success: vec![op(Request::RequestPut(put(&key, &write)))],
            ..TxnRequest::default()
        };
        let before = self.book.shown();
        match self.call(kv.txn(txn)).await {
            End::Unknown => self.maybe_counted += 1,
            End::Answered(answer) if !answer.succeeded => self.conflicts += 1,
            End::Answered(answer) => {
                self.acknowledged(before, answer.header, &write);
                self.counted += 1;
                self.counts.insert((key, count + 1));
            }
        }
    }

    /// Holds what it knows against what is there in the end.
    fn judge(&self, now: &BTreeMap<&[u8], &KeyValue>) {
        for (key, known) in &self.known {
            let found = now.get(key.as_bytes());
            let write = found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            // A lost order moves revisions, upwards only.
            let later = found.is_none_or(|kv| kv.mod_revision > known.revision);
            let can_be = write == known.write || known.maybe.contains(&write) && later;
            if !can_be {
                self.book.fault(format!(
                    "{}: {key} is {write:?} in the end and not {:?}, which was acknowledged at {}",
                    self.name, known.write, known.revision
                ));
            }
        }
    }
}

/// Holds what all writers know against what is there in the end.
pub fn judge(writers: &[Writer], now: &[KeyValue], book: &Book) {
    let now: BTreeMap<_, _> = now.iter().map(|kv| (&kv.key[..], kv)).collect();
    let mut counts = BTreeSet::new();
    for writer in writers {
        writer.judge(&now);
        for count in &writer.counts {
            if !counts.insert(count.clone()) {
                book.fault(format!("two clients were told that they counted {count:?}"));
            }
        }
    }
    let of = |kv: &&KeyValue| kv.key.ends_with(b"/counter").then(|| count_of(kv));
    let total: i64 = now.values().filter_map(of).sum();
    let sum = |of: fn(&Writer) -> u64| -> i64 {
        i64::try_from(writers.iter().map(of).sum::<u64>()).expect("counts are small")
    };
    let (sure, maybe) = (sum(|w| w.counted), sum(|w| w.maybe_counted));
    if total < sure || total > sure + maybe {
        book.fault(format!(
            "the counters say {total}; {sure} were acknowledged and {maybe} more may have happened"
        ));
    }
}

/// Puts a mark.
///
/// # Errors
/// As the endpoint.
pub async fn mark(
    client: &Client,
    book: &Book,
    key: &str,
    value: &str,
) -> Result<(), keyloom_etcd_api::Status> {
    let before = book.shown();
    let answer = client.kv().put(put(key, value)).await.answered()?;
    book.wrote(before, answer.header.expect("a header").revision, value);
    Ok(())
}

/// What a deletion is called in the book.
pub(super) fn delete_of(value: &[u8]) -> String {
    format!("the end of {}", String::from_utf8_lossy(value))
}

/// Whether an error says only that the endpoint or a store is not there.
fn is_of_the_endpoint(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn unchanged(key: &str, at: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(compare::TargetUnion::ModRevision(at)),
        ..Compare::default()
    }
}

fn count_of(kv: &KeyValue) -> i64 {
    let text = String::from_utf8_lossy(&kv.value).into_owned();
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.unwrap_or_else(|| panic!("{text:?} is no count"))
}
