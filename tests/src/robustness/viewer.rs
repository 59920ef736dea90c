//! Clients that watch, lose their stream at random, and go on where they were, as etcd's client
//! and kube-apiserver do.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures_util::stream;
use keyloom_etcd_api::etcdserverpb::{
    RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
};
use keyloom_testkit::{
    Step,
    history::{Connection, Recorder, Wish},
    program::Chance,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};
use tonic::Streaming;

use super::LONG;
use crate::Client;

/// How many there are, from the id of the first. That one watches everything, from before the
/// first write of a round to its last, and never leaves its stream.
pub(super) const VIEWERS: u64 = 11;
pub(super) const FIRST: u64 = 100;

/// How many revisions before a round a watch begins at the earliest.
const BACK: i64 = 200;

/// What they watch, over all stores and on one.
const RANGES: [(&str, &str); 10] = [
    ("\0", "\0"),
    ("/registry/", "/registry0"),
    ("/registry/pods/", "/registry/pods0"),
    ("/registry/secrets/", "/registry/secrets0"),
    ("/registry/secrets/default/b", "\0"),
    ("/registry/pods/default/", "/registry/pods/default0"),
    ("/registry/secrets/tenant-a/", "/registry/secrets/tenant-a0"),
    ("/registry/secrets/default/", "/registry/secrets/default0"),
    ("/registry/pods/default/web-1", ""),
    ("compact_rev_key", ""),
];

/// What a viewer did since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) reconnects: u64,
    pub(super) broken_streams: u64,
}

/// One client and the watches that it wants to have.
#[derive(Debug)]
pub(super) struct Viewer {
    id: u64,
    url: String,
    recorder: Recorder,
    chance: Chance,
    wishes: Vec<Wish>,
    pub(super) done: Done,
    /// What was compacted last.
    compacted: Rc<Cell<i64>>,
    /// Told when the round can begin.
    ready: Rc<Notify>,
}

/// Why a connection ended.
enum Left {
    /// Everything up to the end of the round has come.
    Complete,
    AtRandom,
    Broken,
}

impl Viewer {
    pub(super) fn new(
        id: u64,
        url: &str,
        recorder: &Recorder,
        seed: u64,
        compacted: &Rc<Cell<i64>>,
    ) -> Self {
        Self {
            compacted: Rc::clone(compacted),
            ready: Rc::default(),
            id,
            url: url.to_owned(),
            recorder: recorder.clone(),
            chance: Chance::new(seed),
            wishes: Vec::new(),
            done: Done::default(),
        }
    }

    fn is_steady(&self) -> bool {
        self.id == FIRST
    }

    /// Notified once it sees everything in the round to come.
    pub(super) fn ready(&mut self) -> Rc<Notify> {
        self.ready = Rc::default();
        Rc::clone(&self.ready)
    }

    /// The endpoint is elsewhere now.
    pub(super) fn move_to(&mut self, url: &str) {
        url.clone_into(&mut self.url);
    }

    /// Watches until the round's last revision is known and has come. What was before the round is
    /// not known to the checkers.
    pub(super) async fn run(&mut self, before: i64, last: watch::Receiver<Option<i64>>) {
        self.make_wishes(before);
        let mut until = None;
        while !last.borrow().is_some_and(|last| self.is_complete(last)) {
            if !self.is_steady() && last.borrow().is_none() {
                self.forget_some(before);
            }
            match self.connect(&last, &mut until).await {
                Left::Complete => {}
                Left::AtRandom => self.done.reconnects += 1,
                Left::Broken => self.done.broken_streams += 1,
            }
        }
    }

    /// Drops some wishes and makes new ones; the rest goes on from round to round.
    fn make_wishes(&mut self, before: i64) {
        if self.is_steady() {
            self.wishes = vec![Wish::new(wish(0, true))];
            self.wishes[0].next = Some(before + 1);
            return;
        }
        let chance = &mut self.chance;
        self.wishes.retain(|_| chance.percent(60));
        let count = 1 + chance.below(3);
        while self.wishes.len() < count {
            // Every range has its viewer; what is beside it is drawn.
            let own = usize::try_from(self.id - FIRST - 1).expect("small");
            let range = if self.wishes.is_empty() {
                own
            } else {
                chance.below(RANGES.len())
            };
            let mut request = wish(range, chance.percent(60));
            request.progress_notify = chance.percent(50);
            request.fragment = chance.percent(50);
            for filter in [FilterType::Noput, FilterType::Nodelete] {
                if chance.percent(8) {
                    request.filters.push(filter.into());
                }
            }
            self.wishes.push(Wish::new(request));
        }
    }

    /// A client that was away for long goes on at what it had seen, in rounds before too: that may
    /// be compacted, or just not.
    fn forget_some(&mut self, before: i64) {
        for wish in &mut self.wishes {
            if let Some(next) = &mut wish.next
                && self.chance.percent(20)
            {
                let earlier = match self.chance.below(4) {
                    0 | 1 => self.compacted.get() + self.chance.between(-1, 1),
                    2 => *next - self.chance.between(1, BACK),
                    _ => *next - self.chance.between(1, 50),
                };
                let earliest = (before - BACK).max(1);
                *next = earlier.max(earliest).min(*next);
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn connect(
        &mut self,
        last: &watch::Receiver<Option<i64>>,
        until: &mut Option<Instant>,
    ) -> Left {
        let client = Client::new(&self.url);
        for at in 0..self.wishes.len() {
            self.wishes[at].id = None;
            if self.list_first(at) {
                self.list(&client, at).await;
            }
        }
        let recording = self.recorder.open(self.id);
        let (requests, mut queue) = mpsc::unbounded_channel();
        // Where the stream is broken the answers say so.
        let mut connection = Connection::new(recording, |request| drop(requests.send(request)));
        for (at, wish) in self.wishes.iter_mut().enumerate() {
            if !last.borrow().is_some_and(|last| wish.is_complete(last)) {
                connection.create(at, wish);
            }
        }
        if connection.has_nothing_pending() {
            return Left::Complete;
        }
        let queue = stream::poll_fn(move |context| queue.poll_recv(context));
        let opened = tokio::time::timeout(LONG, client.watch().watch(queue)).await;
        let Ok(opened) = opened else {
            panic!(
                "viewer {}: a stream was not opened within {LONG:?}",
                self.id
            );
        };
        match opened {
            Ok(answers) => {
                let answers = answers.into_inner();
                self.follow(&mut connection, answers, last, until).await
            }
            Err(_) => Left::Broken,
        }
    }

    /// Whether a wish begins with a list, as kube-apiserver's watches do.
    fn list_first(&mut self, at: usize) -> bool {
        self.wishes[at].next.is_none() && self.chance.percent(80)
    }

    async fn list(&mut self, client: &Client, at: usize) {
        let request = &self.wishes[at].request;
        let step = Step::Range(RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            ..RangeRequest::default()
        });
        let recording = self.recorder.begin(self.id, step.clone());
        let answer = client.step(&step).await;
        if let Ok(answer) = &answer {
            self.wishes[at].next = Some(answer.revision() + 1);
        }
        recording.end(answer);
    }

    async fn follow<S: Fn(WatchRequest)>(
        &mut self,
        connection: &mut Connection<S>,
        mut answers: Streaming<WatchResponse>,
        last: &watch::Receiver<Option<i64>>,
        until: &mut Option<Instant>,
    ) -> Left {
        let steady = self.is_steady();
        let lifetime = Duration::from_millis(self.chance.between(50, 2_500).unsigned_abs());
        let end = Instant::now() + lifetime;
        let mut ask = Instant::now();
        loop {
            let finish = *last.borrow();
            if finish.is_some_and(|finish| self.is_complete(finish)) {
                return Left::Complete;
            }
            if finish.is_some_and(|finish| self.waits_for_more(finish)) {
                return Left::AtRandom;
            }
            if finish.is_some() {
                let until = *until.get_or_insert_with(|| Instant::now() + LONG);
                if Instant::now() > until {
                    self.give_up(finish);
                }
            } else if !steady && Instant::now() > end {
                return Left::AtRandom;
            }
            tokio::select! {
                () = sleep_until(ask) => {}
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => {
                        connection.recording.told(&answer);
                        if !self.hear(connection, &answer) {
                            return Left::AtRandom;
                        }
                    }
                    Ok(None) | Err(_) => return Left::Broken,
                }
            }
            if Instant::now() >= ask {
                let wait = self.chance.between(5, 60).unsigned_abs();
                ask = Instant::now() + Duration::from_millis(wait);
                self.say_something(connection, finish.is_some());
            }
        }
    }

    fn give_up(&self, finish: Option<i64>) -> ! {
        let streams = self.recorder.history().streams;
        let last = streams.iter().rfind(|stream| stream.client == self.id);
        panic!(
            "viewer {} is not complete up to {finish:?}: {:#?}\n{last:#?}",
            self.id, self.wishes
        );
    }

    /// Asks for progress, and rarely ends a watch and asks for it anew.
    fn say_something<S: Fn(WatchRequest)>(&mut self, connection: &Connection<S>, always: bool) {
        if always || self.chance.percent(60) {
            connection.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        } else if !self.is_steady() && self.chance.percent(2) {
            let at = self.chance.below(self.wishes.len());
            if let Some(watch_id) = self.wishes[at].id {
                connection.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
        }
    }

    fn is_complete(&self, finish: i64) -> bool {
        self.wishes.iter().all(|wish| wish.is_complete(finish))
    }

    /// Whether progress up to a revision is never announced on the stream: as in etcd not while one
    /// of its watches is to begin later.
    fn waits_for_more(&self, finish: i64) -> bool {
        let open = |wish: &&Wish| wish.id.is_some();
        self.wishes
            .iter()
            .filter(open)
            .any(|wish| wish.start > finish)
    }

    /// Takes a response in; `false` where a watch is over and the stream is to be left.
    fn hear<S: Fn(WatchRequest)>(
        &mut self,
        connection: &mut Connection<S>,
        answer: &WatchResponse,
    ) -> bool {
        let heard = connection.hear(&mut self.wishes, answer);
        if answer.created {
            self.ready.notify_one();
        }
        !heard.over
    }
}

fn wish(range: usize, prev_kv: bool) -> WatchCreateRequest {
    let (key, range_end) = RANGES[range];
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv,
        ..WatchCreateRequest::default()
    }
}
