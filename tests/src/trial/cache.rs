//! A list kept up to date by a watch, as a reflector of Kubernetes does it: when a watch ends it
//! opens another one above what it has seen, and only `compacted` makes it list again.
//!
//! Held against what it is sent: the version of each key grows by one with each event, the previous
//! value of an event is the one that is held, and revisions go up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::stream;
use keyloom_etcd_api::{
    etcdserverpb::{
        RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};
use keyloom_testkit::program::Chance;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{board::Line, book::Book, writer::delete_of};
use crate::{client::Client, stage::KEYS};

/// What the caches hold: everything twice, each store by itself, and two stores together.
pub const RANGES: [(&str, &str); 6] = [
    ("/registry/", "/registry0"),
    ("/registry/", "/registry0"),
    ("/registry/secrets/default/", "/registry/secrets/default0"),
    ("/registry/secrets/tenant-a/", "/registry/secrets/tenant-a0"),
    ("/registry/pods/", "/registry/pods0"),
    ("/registry/secrets/", "/registry/secrets0"),
];

/// Between two attempts where the endpoint does not answer.
const PAUSE: Duration = Duration::from_millis(20);

/// What a cache shows, as it stands.
#[derive(Debug)]
pub struct Shown {
    name: String,
    from: &'static str,
    to: &'static str,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    keys: BTreeMap<Vec<u8>, KeyValue>,
    /// Where the next watch begins; 0 before the first list.
    next: i64,
    relists: u64,
    resumed: u64,
    events: u64,
}

/// A cache at work.
#[derive(Debug)]
pub struct Cache {
    line: Line,
    book: Arc<Book>,
    shown: Arc<Shown>,
}

/// What follows a watch.
enum Then {
    Resume,
    List,
}

// === impl Shown ===

impl Shown {
    #[must_use]
    pub fn relists(&self) -> u64 {
        self.held.lock().relists
    }

    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.held.lock().resumed
    }

    #[must_use]
    pub fn events(&self) -> u64 {
        self.held.lock().events
    }

    fn holds(&self, key: &[u8]) -> bool {
        (self.from.as_bytes()..self.to.as_bytes()).contains(&key)
    }

    /// Whether it shows this mark on every store that it covers.
    #[must_use]
    pub fn shows_marks(&self, value: &str) -> bool {
        let held = self.held.lock();
        let keys = KEYS.map(|key| format!("{key}/mark").into_bytes());
        keys.iter().filter(|key| self.holds(key)).all(|key| {
            held.keys
                .get(key)
                .is_some_and(|kv| kv.value == value.as_bytes())
        })
    }

    /// For the message of a test that fails.
    #[must_use]
    pub fn describe(&self) -> String {
        let held = self.held.lock();
        let marks: BTreeSet<_> = held
            .keys
            .values()
            .filter(|kv| kv.key.ends_with(b"/mark"))
            .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
            .collect();
        format!(
            "{} from {}: next {}, marks {marks:?}, {} relists, {} resumed",
            self.name, self.from, held.next, held.relists, held.resumed
        )
    }

    /// Holds it against a fresh list of everything.
    pub fn must_equal(&self, now: &[KeyValue], book: &Book) {
        let held = self.held.lock();
        let now: Vec<_> = now.iter().filter(|kv| self.holds(&kv.key)).collect();
        let held: Vec<_> = held.keys.values().collect();
        if now != held {
            let differ = |a: &[&KeyValue], b: &[&KeyValue]| -> Vec<String> {
                a.iter()
                    .filter(|kv| !b.contains(kv))
                    .map(|kv| said(kv))
                    .collect()
            };
            book.fault(format!(
                "{}: in the end it holds {:?} instead of {:?}",
                self.name,
                differ(&held, &now),
                differ(&now, &held)
            ));
        }
    }

    fn list(&self, revision: i64, kvs: Vec<KeyValue>, book: &Book) {
        let mut held = self.held.lock();
        if revision + 1 < held.next {
            book.fault(format!(
                "{}: listed at {revision} after it had seen {}",
                self.name,
                held.next - 1
            ));
        }
        held.keys.clear();
        for kv in kvs {
            tell(book, &kv, &self.name);
            held.keys.insert(kv.key.to_vec(), kv);
        }
        held.next = revision + 1;
    }

    /// Takes a response of its watch. `Err` is what is wrong with it.
    fn take(&self, response: WatchResponse, book: &Book) -> Result<Option<Then>, String> {
        let mut held = self.held.lock();
        let header = response.header.ok_or("a response without a header")?;
        if response.canceled {
            return Ok(Some(match response.compact_revision {
                0 => Then::Resume,
                _ => {
                    held.relists += 1;
                    Then::List
                }
            }));
        }
        if response.created {
            if header.revision >= held.next {
                return Err(format!(
                    "a watch from {} is created at {}",
                    held.next, header.revision
                ));
            }
            return Ok(None);
        }
        book.read(0, header.revision, &self.name);
        let mut last = 0;
        for event in response.events {
            held.events += 1;
            last = held.apply(event, last, book, &self.name)?;
        }
        if last > header.revision {
            return Err(format!(
                "the header says {} with an event of {last}",
                header.revision
            ));
        }
        // After events the next one begins above them; after progress, above what it says.
        let reached = if last > 0 { last } else { header.revision };
        held.next = held.next.max(reached + 1);
        Ok(None)
    }
}

impl Held {
    fn apply(&mut self, event: Event, last: i64, book: &Book, by: &str) -> Result<i64, String> {
        let deletes = event.r#type() == EventType::Delete;
        let kv = event.kv.ok_or("an event without a key")?;
        let revision = kv.mod_revision;
        let what = format!(
            "{} of {}",
            if deletes { "delete" } else { "put" },
            said(&kv)
        );
        if revision < self.next.max(last) {
            return Err(format!(
                "{what}: repeated or out of order, next {}",
                self.next
            ));
        }
        let before = self.keys.remove(&kv.key[..]);
        if before != event.prev_kv {
            return Err(format!(
                "{what}: it followed {:?}, and {:?} is held",
                event.prev_kv.as_ref().map(said),
                before.as_ref().map(said)
            ));
        }
        if deletes {
            let Some(before) = before else {
                return Err(format!("{what}: nothing was there"));
            };
            book.tell(revision, &delete_of(&before.value), by);
            return Ok(revision);
        }
        let version = before.map_or(1, |before| before.version + 1);
        if kv.version != version || (version == 1) != (kv.create_revision == revision) {
            return Err(format!("{what}: version {version} is next"));
        }
        tell(book, &kv, by);
        self.keys.insert(kv.key.to_vec(), kv);
        Ok(revision)
    }
}

pub(super) fn tell(book: &Book, kv: &KeyValue, by: &str) {
    // A mark is put again where its answer is lost, so that it may be there twice.
    let write = String::from_utf8_lossy(&kv.value);
    if !write.starts_with("mark") {
        book.tell(kv.mod_revision, &write, by);
    }
}

fn said(kv: &KeyValue) -> String {
    format!(
        "{} = {:?} (version {}, at {})",
        String::from_utf8_lossy(&kv.key),
        String::from_utf8_lossy(&kv.value),
        kv.version,
        kv.mod_revision
    )
}

// === impl Cache ===

impl Cache {
    #[must_use]
    pub fn new(
        number: usize,
        from: &'static str,
        to: &'static str,
        line: Line,
        book: Arc<Book>,
    ) -> Self {
        let shown = Shown {
            name: format!("cache {number}"),
            from,
            to,
            held: Mutex::default(),
        };
        Self {
            line,
            book,
            shown: Arc::new(shown),
        }
    }

    /// What it shows from now on.
    #[must_use]
    pub fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// Lists and watches until everybody is to end.
    pub async fn work(mut self, seed: u64) {
        let mut chance = Chance::new(seed);
        let mut then = Then::List;
        while let Some(client) = self.line.connected().await {
            if matches!(then, Then::List) && !self.list(&client).await {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            then = self.watch(&client, &mut chance).await;
            if matches!(then, Then::Resume) {
                self.shown.held.lock().resumed += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn list(&mut self, client: &Client) -> bool {
        let request = RangeRequest {
            key: self.shown.from.into(),
            range_end: self.shown.to.into(),
            ..RangeRequest::default()
        };
        let before = self.book.shown();
        let mut kv = client.kv();
        let Some(Ok(answer)) = self.line.unless_moved(kv.range(request)).await else {
            return false;
        };
        let answer = answer.into_inner();
        let revision = answer.header.expect("a header").revision;
        self.book.read(before, revision, &self.shown.name);
        self.shown.list(revision, answer.kvs, &self.book);
        true
    }

    /// Watches until the stream ends, and says what follows.
    async fn watch(&mut self, client: &Client, chance: &mut Chance) -> Then {
        let (requests, inbox) = mpsc::channel(4);
        let create = self.create();
        // There is room: nothing was sent yet.
        drop(requests.try_send(asking(RequestUnion::CreateRequest(create))));
        let inbox = stream::unfold(inbox, |mut inbox| async {
            Some((inbox.recv().await?, inbox))
        });
        let mut watch = client.watch();
        let Some(Ok(answers)) = self.line.unless_moved(watch.watch(inbox)).await else {
            return Then::Resume;
        };
        let mut answers = answers.into_inner();
        loop {
            let wait = Duration::from_millis(chance.between(50, 400).unsigned_abs());
            let next = tokio::time::timeout(wait, answers.message());
            match self.line.unless_moved(next).await {
                // Nothing for a while: ask how far it is.
                Some(Err(_)) => {
                    let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    drop(requests.try_send(asking(ask)));
                }
                Some(Ok(Ok(Some(response)))) => {
                    if let Some(then) = self.take(response) {
                        return then;
                    }
                }
                None | Some(Ok(Ok(None) | Err(_))) => return Then::Resume,
            }
        }
    }

    fn take(&self, response: WatchResponse) -> Option<Then> {
        match self.shown.take(response, &self.book) {
            Ok(then) => then,
            Err(what) => {
                self.book.fault(format!("{}: {what}", self.shown.name));
                Some(Then::List)
            }
        }
    }

    fn create(&self) -> WatchCreateRequest {
        WatchCreateRequest {
            key: self.shown.from.into(),
            range_end: self.shown.to.into(),
            start_revision: self.shown.held.lock().next,
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        }
    }
}

fn asking(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}
