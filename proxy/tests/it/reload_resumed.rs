//! Watches that begin in the past, below what is kept of events in memory, while routes change:
//! they read the stores' own history across the changes, over model stores with stopped time.

use std::time::Duration;

use crate::support::{
    Keyloom, Watching,
    changing::{ALL, Stage, topology},
    list,
};
use keyloom_etcd_api::etcdserverpb::DeleteRangeRequest;
use keyloom_proxy::{Applied, WatchOptions};
use keyloom_testkit::{Step, program::Chance};

const SOON: Duration = Duration::from_secs(20);

/// No route ever leads a key of it elsewhere.
const STAYS: &str = "/registry/secrets/default/";

const PREFIXES: [&str; 4] = [STAYS, "/registry/pods/", "/registry/", "/registry/roles/"];

const KEYS: [&str; 5] = [
    "/registry/pods/default/a",
    "/registry/pods/tenant-a/a",
    "/registry/roles/default/r",
    "/registry/secrets/default/s",
    "/registry/services/specs/tenant-a/x",
];

/// (revision, key, is a deletion)
type Event = (i64, String, bool);

/// What was done so far.
#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    /// Where keys came to route elsewhere: between the revision before and the one after.
    changes: Vec<(i64, i64)>,
    cancelled: usize,
    /// Watches that were told something from both sides of a change.
    spanned: usize,
}

impl Log {
    fn head(&self) -> i64 {
        self.events.last().map_or(1, |(at, ..)| *at)
    }

    /// What a watch of this must be told from a revision on.
    fn due(&self, prefix: &str, from: i64) -> Vec<Event> {
        let of_it = |(at, key, _): &&Event| *at >= from && key.starts_with(prefix);
        self.events.iter().filter(of_it).cloned().collect()
    }
}

/// A watch, and where it has come to.
struct Resumed {
    prefix: &'static str,
    watching: Watching,
    /// The first revision that it has not been told.
    next: i64,
}

impl Resumed {
    async fn begin(keyloom: &Keyloom, prefix: &'static str, next: i64) -> Self {
        let watching = Watching::open(keyloom).await;
        watching.watch(prefix, next);
        Self {
            prefix,
            watching,
            next,
        }
    }

    /// Reads as many events as are due, or as are wanted; where the watch is cancelled, for it
    /// began below a change of its range, it goes on at that change.
    async fn read(&mut self, keyloom: &Keyloom, log: &mut Log, most: usize) {
        let due = log.due(self.prefix, self.next);
        let began = self.next;
        let mut seen = 0;
        while seen < due.len().min(most) {
            let Some(answer) = self.watching.next(SOON).await else {
                panic!("{} from {began}: {seen} of {due:?}", self.prefix)
            };
            if answer.canceled {
                let floor = answer.compact_revision;
                let next = self.next;
                // It begins anew at the change; at the head, where a store has left that it was
                // still reading.
                let head = log.head();
                let below = |(before, after): &(i64, i64)| {
                    next <= *after && *before <= floor && floor <= head
                };
                let found = log.changes.iter().any(below);
                assert!(found, "{} from {next}: {answer:?}, {log:?}", self.prefix);
                assert_ne!(self.prefix, STAYS, "{answer:?}");
                assert!(floor > next, "{answer:?} from {next}");
                log.cancelled += 1;
                *self = Self::begin(keyloom, self.prefix, floor).await;
                return;
            }
            for event in &answer.events {
                let kv = event.kv.as_ref().unwrap();
                let key = String::from_utf8(kv.key.to_vec()).unwrap();
                let event = (kv.mod_revision, key, event.r#type == 1);
                assert_eq!(Some(&event), due.get(seen), "{} from {began}", self.prefix);
                seen += 1;
                self.next = event.0 + 1;
            }
        }
        let spans = |(before, after): &&(i64, i64)| began <= *before && *after < self.next;
        log.spanned += usize::from(log.changes.iter().any(|change| spans(&change)));
    }
}

async fn delete(keyloom: &Keyloom, key: &str) -> i64 {
    let request = DeleteRangeRequest {
        key: key.to_owned().into(),
        ..DeleteRangeRequest::default()
    };
    let answer = keyloom.ask(&Step::DeleteRange(request)).await;
    answer.unwrap().revision()
}

/// A new topology, which keys that are there may stand in the way of.
async fn change(keyloom: &Keyloom, chance: &mut Chance, log: &mut Log) {
    let next = topology(ALL[chance.below(ALL.len())]);
    let before = log.head();
    if let Ok(Applied::Changed { moved: true }) = keyloom.apply(&next).await {
        // The change took one, and this is above it.
        let key = KEYS[3];
        let after = keyloom.put(key, "1").await.unwrap();
        log.events.push((after, key.to_owned(), false));
        log.changes.push((before, after));
    }
}

async fn run(seed: u64) -> Log {
    let stage = Stage::new();
    // Next to nothing is kept: what begins in the past reads the stores.
    let watch = WatchOptions {
        history_revisions: 2,
        ..WatchOptions::default()
    };
    let keyloom = stage.start_watching(&topology(ALL[0]), watch).await;
    let (mut chance, mut log) = (Chance::new(seed), Log::default());
    let mut watches = Vec::new();
    for prefix in PREFIXES {
        watches.push(Resumed::begin(&keyloom, prefix, 2).await);
    }
    for _ in 0..150 {
        let which = chance.below(watches.len());
        match chance.below(6) {
            0 => change(&keyloom, &mut chance, &mut log).await,
            1 | 2 => {
                let key = KEYS[chance.below(KEYS.len())];
                let at = keyloom.put(key, "1").await.unwrap();
                log.events.push((at, key.to_owned(), false));
            }
            3 => {
                for kv in keyloom.range(list("/registry/")).await.unwrap().kvs {
                    let key = String::from_utf8(kv.key.to_vec()).unwrap();
                    let at = delete(&keyloom, &key).await;
                    log.events.push((at, key, true));
                }
            }
            // Some read a little now: the rest is caught up with while routes change.
            4 => {
                let most = 1 + chance.below(4);
                watches[which].read(&keyloom, &mut log, most).await;
            }
            _ => {
                let events = log.events.len().max(1);
                let from = log.events.get(chance.below(events));
                let from = from.map_or(2, |(at, ..)| *at);
                let prefix = watches[which].prefix;
                watches[which] = Resumed::begin(&keyloom, prefix, from).await;
            }
        }
    }
    for mut watch in watches {
        while !log.due(watch.prefix, watch.next).is_empty() {
            watch.read(&keyloom, &mut log, usize::MAX).await;
        }
        let more = watch.watching.next(Duration::from_millis(500)).await;
        assert!(more.is_none_or(|more| more.events.is_empty()), "repeated");
    }
    log
}

#[tokio::test(start_paused = true)]
async fn watches_from_the_past_miss_and_repeat_nothing_while_routes_change() {
    let (mut changes, mut cancelled, mut spanned) = (0, 0, 0);
    for seed in 0..40 {
        let log = run(seed).await;
        changes += log.changes.len();
        cancelled += log.cancelled;
        spanned += log.spanned;
    }
    let counts = format!("{changes} changes, {cancelled} cancelled, {spanned} spanned");
    assert!(changes > 100 && cancelled > 20 && spanned > 100, "{counts}");
}
