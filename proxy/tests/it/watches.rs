//! Watches through a whole Keyloom against one model etcd: random programs of writes, compactions
//! and watch calls, over one store and over several. What each watch is told must be the same.

use std::time::Duration;

use crate::support::{
    Keyloom, THREE, stores, stores_of,
    streams::{Stream, open_watch_on},
};
use keyloom_etcd_api::{
    Code,
    etcdserverpb::{WatchCreateRequest, WatchResponse, watch_request::RequestUnion},
};
use keyloom_proxy::WatchOptions;
use keyloom_testkit::{
    Step,
    model::ModelStore,
    program::{Chance, Generator, Group, Headers, Settings, WatchLog},
};

const ONE: &str = "default: {endpoint: 'http://default.invalid:2379'}";
const WITH_EMPTY: &str = "
default: {endpoint: 'http://default.invalid:2379'}
backends:
- {name: empty, endpoint: 'http://empty.invalid:2379', prefix: {prefix: nothing/here}}
";

/// What must come comes within this, on the clock that stands still while there is work.
const SOON: Duration = Duration::from_secs(60);

/// What is under way arrives within this.
const MOMENT: Duration = Duration::from_millis(20);

/// How many streams a program has.
const STREAMS: usize = 3;

fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["a", "b", "c"]),
        Group::new("/registry/pods/tenant-a/", &["a", "b"]),
        Group::new("/registry/pods/zone/", &["a", "b"]),
        Group::new("/registry/roles/default/", &["r", "s"]),
        Group::new("/registry/services/specs/tenant-a/", &["x"]),
        Group::new("compact_rev_key", &[""]),
    ]
}

/// One stream to each side.
struct Pair {
    expected: Stream,
    told: WatchLog,
    tested: Stream,
    got: WatchLog,
}

struct Run {
    seed: u64,
    text: &'static str,
    options: WatchOptions,
    generator: Generator,
    chance: Chance,
    reference: ModelStore,
    stores: Vec<ModelStore>,
    keyloom: Keyloom,
    pairs: Vec<Pair>,
    compacted: i64,
    seen: Seen,
}

/// What the programs came upon, so that a test that compares nothing shows.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
    lost: usize,
    progress: usize,
}

impl Run {
    async fn new(
        seed: u64,
        text: &'static str,
        stores: Vec<ModelStore>,
        options: WatchOptions,
    ) -> Self {
        let keyloom = Keyloom::start_watching(text, &stores, options.clone()).await;
        let mut run = Self {
            seed,
            text,
            options,
            generator: Generator::new(seed, Settings::new(groups())),
            chance: Chance::new(seed ^ 0x77),
            reference: ModelStore::default(),
            stores,
            keyloom,
            pairs: Vec::new(),
            compacted: 0,
            seen: Seen::default(),
        };
        run.open().await;
        run
    }

    fn is_merged(&self) -> bool {
        self.stores.len() > 1
    }

    /// New streams on both sides.
    async fn open(&mut self) {
        let headers = match self.is_merged() {
            true => Headers::NeverAhead,
            false => Headers::Any,
        };
        for _ in 0..STREAMS {
            self.pairs.push(Pair {
                expected: open_watch_on(&self.reference).await,
                told: WatchLog::new(Headers::Any),
                tested: self.keyloom.open_watch().await,
                got: WatchLog::new(headers),
            });
        }
    }

    async fn step(&mut self) {
        let step = self.generator.next_step();
        if matches!(step, Step::Compact(_)) {
            // A watch that still has to catch up may be lost to it or not.
            self.settle().await;
        }
        let got = self.keyloom.ask(&step).await;
        if got.as_ref().is_err_and(|status| {
            status.code() == Code::InvalidArgument && status.message().contains("store")
        }) {
            return;
        }
        let expected = self
            .reference
            .with(|etcd| etcd.apply(&step))
            .map_err(Into::into);
        assert_eq!(
            expected.is_ok(),
            got.is_ok(),
            "seed {}: {step:?}",
            self.seed
        );
        if let (Step::Compact(request), Ok(_)) = (&step, &expected) {
            self.compacted = self.compacted.max(request.revision);
        }
        self.generator.learn(&step, &expected);
    }

    async fn watch(&mut self) {
        let at = self.chance.below(self.pairs.len());
        let mut ids = self.pairs[at].told.ids();
        ids.sort_unstable();
        let request = self.generator.next_watch(&ids);
        match &request.request_union {
            // What a stream says of its progress is compared where nothing is under way.
            Some(RequestUnion::ProgressRequest(_)) => return self.progress(at).await,
            // What a cancelled watch was told before depends on when.
            Some(RequestUnion::CancelRequest(_)) => self.settle().await,
            _ => {}
        }
        let pair = &mut self.pairs[at];
        pair.expected.send(&request);
        pair.tested.send(&request);
        // The reference answers at once; the ids that it gives are known to the next request.
        pair.drain().await;
        let comes_from_the_past = matches!(
            &request.request_union,
            Some(RequestUnion::CreateRequest(create)) if create.start_revision > 0
        );
        if !comes_from_the_past {
            // What is told depends on when the request arrives.
            self.settle().await;
        }
    }

    /// Where everything has arrived progress is answered, and with the same revision.
    async fn progress(&mut self, at: usize) {
        self.settle().await;
        let seed = self.seed;
        let pair = &mut self.pairs[at];
        if !pair.told.lost().is_empty() {
            // etcd is silent until a lost watch is cancelled; over several stores it is left out.
            return;
        }
        pair.expected.ask_progress();
        pair.tested.ask_progress();
        let before = pair.told.progress().len();
        pair.drain().await;
        let told = pair.told.progress()[before..].to_vec();
        let mut got = Vec::new();
        while let Some(answer) = pair.tested.next_within(Duration::from_secs(1)).await {
            let answer = answer.unwrap().unwrap();
            pair.got.take(&answer).unwrap();
            if answer.watch_id == -1 {
                got.push(answer.header.unwrap().revision);
                break;
            }
        }
        assert_eq!(told, got, "seed {seed}: progress");
        self.seen.progress += got.len();
    }

    /// Waits until both sides were told everything, and compares.
    async fn settle(&mut self) {
        for pair in &mut self.pairs {
            pair.drain().await;
            while pair.got.len() < pair.told.len() {
                let Some(Some(Ok(response))) = pair.tested.next_within(SOON).await else {
                    let same = pair.told.same(&pair.got, self.compacted, true);
                    panic!("seed {}: something is missing: {same:?}", self.seed);
                };
                take(&mut pair.got, &response, self.seed);
            }
            // Nothing more may come; and a watch from the past has all of it now, or is lost now.
            while let Some(answer) = pair.tested.next_within(MOMENT).await {
                take(&mut pair.got, &answer.unwrap().unwrap(), self.seed);
            }
            if let Err(why) = pair.told.same(&pair.got, self.compacted, true) {
                panic!("seed {}: {why}", self.seed);
            }
        }
    }

    /// A clean end and a new beginning: watches go on where they were.
    async fn restart(mut self) -> Self {
        self.settle().await;
        self.count();
        let resume: Vec<_> = self.pairs.iter().map(|pair| pair.got.resume()).collect();
        self.pairs.clear();
        self.keyloom.stop().await;
        self.keyloom = Keyloom::start_watching(self.text, &self.stores, self.options.clone()).await;
        self.open().await;
        for (pair, resume) in self.pairs.iter_mut().zip(resume) {
            for (id, start_revision) in resume {
                let everything = WatchCreateRequest {
                    key: "\0".into(),
                    range_end: "\0".into(),
                    watch_id: id,
                    start_revision,
                    prev_kv: true,
                    ..WatchCreateRequest::default()
                };
                pair.expected.create(everything.clone());
                pair.tested.create(everything);
            }
        }
        self
    }

    fn count(&mut self) {
        for pair in &self.pairs {
            self.seen.events += pair.got.events();
            self.seen.lost += pair.got.lost().len();
        }
    }
}

fn take(log: &mut WatchLog, response: &WatchResponse, seed: u64) {
    if let Err(why) = log.take(response) {
        panic!("seed {seed}: {why}\n{response:#?}");
    }
}

impl Pair {
    /// Takes what the reference has sent.
    async fn drain(&mut self) {
        while let Some(Some(Ok(response))) = self.expected.next_within(Duration::ZERO).await {
            take(&mut self.told, &response, 0);
        }
    }
}

async fn run(
    seed: u64,
    text: &'static str,
    stores: Vec<ModelStore>,
    options: &WatchOptions,
) -> Seen {
    let mut run = Run::new(seed, text, stores, options.clone()).await;
    for at in 0..300 {
        match run.chance.below(10) {
            0..3 => run.watch().await,
            3 => run.settle().await,
            _ => run.step().await,
        }
        if at % 97 == 96 {
            run = run.restart().await;
        }
    }
    run.settle().await;
    run.count();
    run.seen
}

/// Moved by `KEYLOOM_SEED` where other programs are wanted.
fn first_seed() -> u64 {
    let moved = std::env::var("KEYLOOM_SEED").map(|text| text.parse().unwrap());
    moved.unwrap_or(0)
}

async fn all(
    seeds: u64,
    text: &'static str,
    stores: impl Fn() -> Vec<ModelStore>,
    options: WatchOptions,
) {
    let mut sum = Seen::default();
    for seed in 0..seeds {
        let seen = run(first_seed() + seed, text, stores(), &options).await;
        sum.events += seen.events;
        sum.lost += seen.lost;
        sum.progress += seen.progress;
    }
    let seeds = usize::try_from(seeds).unwrap();
    assert!(sum.events > seeds * 300, "{sum:?}");
    assert!(sum.lost > seeds / 2 && sum.progress > seeds, "{sum:?}");
}

/// So little is kept in memory that most watches from the past read the stores.
fn little_history() -> WatchOptions {
    WatchOptions {
        history_revisions: 5,
        ..WatchOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn one_store_tells_its_own() {
    all(10, ONE, || stores(1), WatchOptions::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_empty_store_changes_nothing_that_is_told() {
    all(10, WITH_EMPTY, || stores(2), WatchOptions::default()).await;
}

#[tokio::test(start_paused = true)]
async fn three_stores_tell_as_one() {
    all(16, THREE, || stores(3), WatchOptions::default()).await;
}

#[tokio::test(start_paused = true)]
async fn three_stores_tell_as_one_out_of_their_own_histories() {
    all(16, THREE, || stores(3), little_history()).await;
}

/// Their progress is not trusted, so that catching up reads everything.
#[tokio::test(start_paused = true)]
async fn three_old_stores_tell_as_one_out_of_their_own_histories() {
    all(10, THREE, || stores_of("3.4.23", 3), little_history()).await;
}
