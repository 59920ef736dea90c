//! Clients that write and read, and one that compacts.

use std::{cell::Cell, rc::Rc, time::Duration};

use keyloom_etcd_api::{
    Code,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, RangeRequest, ResponseHeader, TxnRequest,
        range_request::SortTarget, request_op::Request,
    },
};
use keyloom_testkit::{
    Answer, Step,
    history::Recorder,
    program::{Chance, Generator, Settings, highest_revision, name_leases, reads_below},
};

use tokio::time::sleep;

use super::{Amid, Course, leases::Leases, pause};
use crate::Client;

/// A pause after a call that found a store away.
const AWAY: Duration = Duration::from_millis(20);

/// One client with a random program.
pub(super) struct Writer {
    id: u64,
    generator: Generator,
    chance: Chance,
    /// The highest revision that it was given; others it does not name.
    given: i64,
    /// What was before is not known to the checkers.
    from: i64,
    recorder: Recorder,
    leases: Rc<Leases>,
}

impl Writer {
    pub(super) fn new(
        id: u64,
        seed: u64,
        settings: Settings,
        from: i64,
        recorder: &Recorder,
        leases: Rc<Leases>,
    ) -> Self {
        let mut generator = Generator::new(seed, settings);
        // As if all before had been compacted: it is not read then.
        let compact = Step::Compact(CompactionRequest {
            revision: from,
            physical: false,
        });
        let header = Some(ResponseHeader {
            revision: from,
            ..ResponseHeader::default()
        });
        generator.learn(
            &compact,
            &Ok(Answer::Compact(CompactionResponse { header })),
        );
        Self {
            id,
            generator,
            chance: Chance::new(seed),
            given: from,
            from,
            recorder: recorder.clone(),
            leases,
        }
    }

    /// Makes its steps, and more until that is over which goes on meanwhile.
    pub(super) async fn run(mut self, course: &Course, meanwhile: &Cell<bool>) {
        let client = Client::new(&course.url);
        let mut steps = 0;
        while steps < course.steps || meanwhile.get() {
            steps += 1;
            pause(&mut self.chance, course.pause).await;
            let mut step = self.generator.next_step();
            if highest_revision(&step) > self.given || reads_below(&step, self.from) {
                continue;
            }
            name_leases(&mut step, self.leases.one(&mut self.chance));
            sort_by_key(&mut step);
            if course.amid != Amid::Nothing && !course.pinned {
                unpin(&mut step);
            }
            let recording = self.recorder.begin(self.id, step.clone());
            let answer = client.step(&step).await;
            self.generator.learn(&step, &answer);
            self.given = self.given.max(answer.as_ref().map_or(0, Answer::revision));
            let refused = matches!(&answer, Err(status) if status.code() == Code::Unavailable);
            recording.end(answer);
            if refused {
                // A store is not there: no need to hammer at its place.
                sleep(AWAY).await;
            }
        }
    }
}

/// In which order equal keys come is open in etcd where there are more than 12.
fn sort_by_key(step: &mut Step) {
    match step {
        Step::Range(range) => range.set_sort_target(SortTarget::Key),
        Step::Txn(txn) => sort_txn_by_key(txn),
        Step::Put(_) | Step::DeleteRange(_) | Step::Compact(_) => {}
    }
}

fn sort_txn_by_key(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => range.set_sort_target(SortTarget::Key),
            Some(Request::RequestTxn(txn)) => sort_txn_by_key(txn),
            _ => {}
        }
    }
}

/// A transaction that writes reads nothing at a revision of the past here. Where it finds that
/// revision compacted it is refused, and an etcd that is ended before it has saved how far it came
/// takes it after all when it reads its log again: `reference::a_killed_etcd_3_6_takes_what_it_refused`.
fn unpin(step: &mut Step) {
    if !step.only_reads()
        && let Step::Txn(txn) = step
    {
        unpin_txn(txn);
    }
}

fn unpin_txn(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => range.revision = 0,
            Some(Request::RequestTxn(txn)) => unpin_txn(txn),
            _ => {}
        }
    }
}

/// A client that compacts as kube-apiserver does, only much more often: at what was the newest
/// revision some time ago.
pub(super) struct Compactor {
    client: Client,
    recorder: Recorder,
    seen: i64,
}

/// The id of its calls in the history.
const COMPACTOR: u64 = 90;

impl Compactor {
    pub(super) fn new(url: &str, recorder: &Recorder, from: i64) -> Self {
        Self {
            client: Client::new(url),
            recorder: recorder.clone(),
            seen: from,
        }
    }

    /// Compacts while somebody writes, and says at what.
    pub(super) async fn run(mut self, writing: &Cell<bool>, compacted: &Cell<i64>) {
        while writing.get() {
            sleep(Duration::from_millis(700)).await;
            let revision = self.seen;
            let step = Step::Compact(CompactionRequest {
                revision,
                physical: false,
            });
            let newest = Step::Range(RangeRequest {
                key: "\0".into(),
                ..RangeRequest::default()
            });
            let newest = self.client.step(&newest).await;
            self.seen = newest.map_or(self.seen, |newest| newest.revision());
            let recording = self.recorder.begin(COMPACTOR, step.clone());
            let answer = self.client.step(&step).await;
            // It is recorded first, so that it may hold where a store did not answer, or had no room
            // for it.
            let holds = |status: &keyloom_etcd_api::Status| {
                matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
            };
            if answer.as_ref().map_or_else(holds, |_| true) {
                compacted.set(compacted.get().max(revision));
            }
            recording.end(answer);
        }
    }
}
