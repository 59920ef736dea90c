//! Watch streams against an endpoint, and programs of watch calls against two of them.
//!
//! A model of etcd goes along: what it tells is what both endpoints must tell, so that it is known
//! when all of it has arrived.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::{
    Code, Status,
    etcdserverpb::{
        CompactionRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
        WatchRequest, WatchResponse, watch_request::RequestUnion,
    },
};
use keyloom_etcd_client::{Answered as _, status_of};
use keyloom_testkit::{
    Step,
    model::{Etcd, WatchStream},
    program::{Chance, Generator, Headers, Settings, WatchLog},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};

use crate::{client::Client, duel::seed, poll::LONG};

/// Between two progress requests: etcd passes over one that comes while a watch catches up.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How many streams a program has.
const STREAMS: usize = 3;

/// One client's Watch stream.
#[derive(Debug)]
pub struct Watching {
    requests: UnboundedSender<WatchRequest>,
    answers: UnboundedReceiver<Result<WatchResponse, Status>>,
    reading: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Watching {
    /// Opens a stream; etcd says nothing on it before its first answer.
    #[must_use]
    pub fn open(client: &Client) -> Self {
        let (requests, mut to_send) = unbounded_channel();
        let (told, answers) = unbounded_channel();
        let mut client = client.watch().max_decoding_message_size(usize::MAX);
        let reading = tokio::spawn(async move {
            let requests = stream::poll_fn(move |context| to_send.poll_recv(context));
            let mut answers = match client.watch(requests).await.answered() {
                Ok(answers) => answers,
                Err(status) => return drop(told.send(Err(status))),
            };
            while let Some(answer) = answers.next().await {
                if told
                    .send(answer.map_err(|status| status_of(&status)))
                    .is_err()
                {
                    return;
                }
            }
        });
        Self {
            requests,
            answers,
            reading,
        }
    }

    pub fn send(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        // A stream that ended says so when it is read.
        drop(self.requests.send(request));
    }

    pub fn create(&self, create: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(create));
    }

    pub fn ask_progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// What comes next, if it comes in time.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Result<WatchResponse, Status>> {
        let next = timeout(limit, self.answers.recv()).await.ok()?;
        Some(next.unwrap_or_else(|| Err(Status::cancelled("the stream has ended"))))
    }

    /// What must come next.
    pub async fn next(&mut self) -> WatchResponse {
        match self.next_within(LONG).await {
            Some(Ok(response)) => response,
            other => panic!("instead of a response: {other:?}"),
        }
    }
}

/// A stream to the model and to both endpoints.
#[derive(Debug)]
struct Triple {
    model: WatchStream,
    told: WatchLog,
    sides: [(Watching, WatchLog); 2],
}

/// Which answers count as progress of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is answered only when every watch has everything.
    Synced,
    /// etcd before 3.4.25 and 3.5.8 answers at once.
    AtOnce,
}

/// A program of writes and watch calls.
#[derive(Debug)]
pub struct WatchDuel {
    seed: u64,
    generator: Generator,
    chance: Chance,
    model: Etcd,
    reference: Client,
    tested: Client,
    /// Whether the tested side has several stores.
    merged: bool,
    progress: Progress,
    triples: Vec<Triple>,
    compacted: i64,
    /// What was compared, so that a test that compares nothing shows.
    pub events: usize,
    pub lost: usize,
    pub asked: usize,
    pub refused: usize,
}

impl WatchDuel {
    /// Endpoints that are empty.
    #[must_use]
    pub fn new(usual: u64, settings: Settings, reference: Client, tested: Client) -> Self {
        let seed = seed(usual);
        let mut duel = Self {
            seed,
            generator: Generator::new(seed, settings),
            chance: Chance::new(seed ^ 0x77),
            model: Etcd::default(),
            reference,
            tested,
            merged: false,
            progress: Progress::Synced,
            triples: Vec::new(),
            compacted: 0,
            events: 0,
            lost: 0,
            asked: 0,
            refused: 0,
        };
        duel.open();
        duel
    }

    /// The tested side has several stores: no header may be ahead of events.
    #[must_use]
    pub fn merged(mut self) -> Self {
        self.merged = true;
        self.triples.clear();
        self.open();
        self
    }

    /// Both are etcds that answer progress requests too early.
    #[must_use]
    pub fn with_early_progress(mut self) -> Self {
        self.progress = Progress::AtOnce;
        self
    }

    fn open(&mut self) {
        let strict = match self.merged {
            true => Headers::NeverAhead,
            false => Headers::Any,
        };
        for _ in 0..STREAMS {
            let side = |client: &Client, headers| (Watching::open(client), WatchLog::new(headers));
            self.triples.push(Triple {
                model: WatchStream::default(),
                told: WatchLog::new(Headers::Any),
                sides: [
                    side(&self.reference, Headers::Any),
                    side(&self.tested, strict),
                ],
            });
        }
    }

    /// Draws and compares so many steps.
    pub async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.chance.below(10) {
                0..3 => self.watch().await,
                3 => self.settle().await,
                _ => self.step().await,
            }
        }
        self.finish().await;
    }

    async fn finish(&mut self) {
        self.drop_lost().await;
        self.settle().await;
        for triple in &self.triples {
            self.events += triple.told.events();
        }
    }

    /// Goes on with another way to the tested endpoint: every watch is opened again where it was.
    pub async fn go_on_with(&mut self, tested: Client) {
        self.tested = tested;
        let resume: Vec<_> = self.triples.iter().map(|t| t.sides[1].1.resume()).collect();
        self.triples.clear();
        self.open();
        for (at, watches) in resume.into_iter().enumerate() {
            for (id, start_revision) in watches {
                let everything = WatchCreateRequest {
                    key: "\0".into(),
                    range_end: "\0".into(),
                    watch_id: id,
                    start_revision,
                    prev_kv: true,
                    ..WatchCreateRequest::default()
                };
                self.send(at, &RequestUnion::CreateRequest(everything));
            }
        }
        self.settle().await;
    }

    async fn step(&mut self) {
        let step = self.generator.next_step();
        if let Step::Compact(request) = &step
            && !self.may_compact(*request).await
        {
            return;
        }
        let got = self.tested.step(&step).await;
        if got.as_ref().is_err_and(is_refused) {
            self.refused += 1;
            return;
        }
        let told = self.reference.step(&step).await;
        let expected = self.model.apply(&step).map_err(Status::from);
        for (who, told) in [("reference", &told), ("tested", &got)] {
            assert_eq!(
                expected.is_ok(),
                told.is_ok(),
                "seed {}, {who}: {step:?}\n{told:?}",
                self.seed
            );
        }
        if let (Step::Compact(request), Ok(_)) = (&step, &expected) {
            self.compacted = self.compacted.max(request.revision);
        }
        self.generator.learn(&step, &expected);
        for triple in &mut self.triples {
            for response in triple.model.deliver(&self.model) {
                triple.told.take(&response).expect("what a model says");
            }
        }
    }

    /// A watch that still has to catch up may be lost to a compaction or not: it must have caught
    /// up before, and what it waits for in the future must not be in the way of seeing that.
    async fn may_compact(&mut self, request: CompactionRequest) -> bool {
        if request.revision > self.model.revision() || request.revision <= self.compacted {
            return true;
        }
        if self.progress == Progress::AtOnce {
            return false;
        }
        self.drop_lost().await;
        for at in 0..self.triples.len() {
            if !self.progress_of(at).await {
                return false;
            }
        }
        true
    }

    /// As etcd's own client: a watch that is lost is cancelled.
    async fn drop_lost(&mut self) {
        self.settle().await;
        for at in 0..self.triples.len() {
            for watch_id in self.triples[at].told.lost() {
                self.lost += 1;
                let cancel = WatchCancelRequest { watch_id };
                self.send(at, &RequestUnion::CancelRequest(cancel));
            }
        }
        self.settle().await;
    }

    async fn watch(&mut self) {
        let at = self.chance.below(self.triples.len());
        let ids = self.triples[at].told.ids();
        let request = self.generator.next_watch(&ids).request_union;
        let Some(request) = request else { return };
        match &request {
            RequestUnion::ProgressRequest(_) => {
                self.drop_lost().await;
                self.progress_of(at).await;
                return;
            }
            RequestUnion::CancelRequest(_) => self.settle().await,
            RequestUnion::CreateRequest(_) => {}
        }
        self.send(at, &request);
        // What is told depends on when such a request arrives.
        let is_past = matches!(
            &request,
            RequestUnion::CreateRequest(create) if create.start_revision > 0
        );
        if !is_past {
            self.settle().await;
        }
    }

    fn send(&mut self, at: usize, request: &RequestUnion) {
        let triple = &mut self.triples[at];
        for (side, _) in &triple.sides {
            side.send(request.clone());
        }
        let request = WatchRequest {
            request_union: Some(request.clone()),
        };
        for response in triple.model.request(&self.model, request) {
            triple.told.take(&response).expect("what a model says");
        }
    }

    /// Where everything has arrived, progress is told, and with the head's revision. `false` where
    /// etcd says nothing: on a stream without watches, or with one that begins in the future.
    async fn progress_of(&mut self, at: usize) -> bool {
        self.settle().await;
        let head = self.model.revision();
        let progress = WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
        };
        let triple = &mut self.triples[at];
        if triple.told.ids().is_empty() {
            return true;
        }
        if triple.model.request(&self.model, progress).is_empty() {
            return false;
        }
        for (side, log) in &mut triple.sides {
            let before = log.progress().len();
            let end = tokio::time::Instant::now() + LONG;
            while log.progress().len() == before {
                side.ask_progress();
                while let Some(answer) = side.next_within(ASK_AGAIN).await {
                    take(log, &answer.expect("an open stream"), self.seed);
                }
                assert!(tokio::time::Instant::now() < end, "no progress");
            }
            // More than one was asked for, perhaps.
            assert!(
                log.progress()[before..].iter().all(|at| *at == head),
                "seed {}: progress {:?}, not {head}",
                self.seed,
                &log.progress()[before..]
            );
        }
        self.asked += 1;
        true
    }

    /// Waits until both were told what the model tells, and compares.
    async fn settle(&mut self) {
        for triple in &mut self.triples {
            for (number, (side, log)) in triple.sides.iter_mut().enumerate() {
                while log.len() < triple.told.len() {
                    match side.next_within(LONG).await {
                        Some(Ok(response)) => take(log, &response, self.seed),
                        other => {
                            let same = triple.told.same(log, self.compacted, true);
                            panic!(
                                "seed {}, side {number}: {other:?}, where: {same:?}",
                                self.seed
                            );
                        }
                    }
                }
                if let Err(why) = triple.told.same(log, self.compacted, true) {
                    panic!("seed {}, side {number}: {why}", self.seed);
                }
            }
        }
    }
}

fn take(log: &mut WatchLog, response: &WatchResponse, seed: u64) {
    if let Err(why) = log.take(response) {
        panic!("seed {seed}: {why}\n{response:#?}");
    }
}

/// What only one etcd can do.
fn is_refused(status: &Status) -> bool {
    status.code() == Code::InvalidArgument
        && (status.message().contains("transaction spans stores")
            || status.message().contains("refuses to delete over stores"))
}
