//! What the clients of a run share: whether they may work, where they are to go, and into which
//! history they write.
//!
//! A run has one or more segments. A segment ends where an instance ended without its good order:
//! the next one may have lost the order of the last revisions (not the data), so that each segment
//! is a history of its own that begins with what is there then.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use keyloom_etcd_api::mvccpb::KeyValue;
use keyloom_testkit::history::{History, Recorder};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody begins anything.
    Rest,
    Work,
    /// Watches come as far as this revision.
    Finish(i64),
    Over,
}

/// Every key at a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) revision: i64,
    pub(crate) keys: Vec<KeyValue>,
}

/// A segment that is over.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) history: History,
    pub(crate) before: Known,
    /// Of the last segment only: what is there in the end.
    pub(crate) after: Option<Known>,
    /// The highest compaction that was asked for before.
    pub(crate) compacted: i64,
    /// Whether an order may have been lost before.
    pub(crate) recovered: bool,
    pub(crate) leases: BTreeSet<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    shared: Arc<Mutex<Shared>>,
    now: watch::Sender<(Phase, usize)>,
}

#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    before: Known,
    compacted: i64,
    leases: BTreeSet<i64>,
    segments: Vec<Segment>,
    under_way: usize,
    given: i64,
    /// Up to where somebody watches everything and has it.
    witnessed: i64,
    /// Whether nobody does any more.
    blind: bool,
    /// The instances that may serve; the clients begin with the first.
    hosts: Vec<String>,
}

/// Something that is under way.
#[derive(Debug)]
pub(crate) struct Ticket {
    stage: Stage,
    pub(crate) recorder: Recorder,
    /// What was before is not known to the checkers.
    pub(crate) from: i64,
    /// The highest revision that anybody was given.
    pub(crate) given: i64,
}

impl Stage {
    pub(crate) fn new(hosts: Vec<String>) -> Self {
        let shared = Shared {
            recorder: Recorder::default(),
            before: Known::default(),
            compacted: 0,
            leases: BTreeSet::new(),
            segments: Vec::new(),
            under_way: 0,
            given: 0,
            witnessed: 0,
            blind: false,
            hosts,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            now: watch::Sender::new((Phase::Rest, 0)),
        }
    }

    // === the clients' side ===

    pub(crate) fn phase(&self) -> Phase {
        self.now.borrow().0
    }

    pub(crate) fn segment(&self) -> usize {
        self.now.borrow().1
    }

    /// Told of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<(Phase, usize)> {
        self.now.subscribe()
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        self.shared.lock().hosts.clone()
    }

    /// Waits until there is work, and begins it; `None` where there is none any more.
    pub(crate) async fn begin(&self) -> Option<Ticket> {
        let mut changes = self.changes();
        // The sender is ours.
        let phase = changes.wait_for(|(phase, _)| *phase != Phase::Rest).await;
        let phase = phase.map(|now| now.0).ok()?;
        if phase != Phase::Work {
            return None;
        }
        let mut shared = self.shared.lock();
        shared.under_way += 1;
        Some(Ticket {
            stage: self.clone(),
            recorder: shared.recorder.clone(),
            from: shared.before.revision,
            given: shared.given,
        })
    }

    /// Somebody was given a revision.
    pub(crate) fn gave(&self, revision: i64) {
        let mut shared = self.shared.lock();
        shared.given = shared.given.max(revision);
    }

    /// Whoever watches everything has everything up to here.
    pub(crate) fn witness(&self, revision: i64) {
        self.shared.lock().witnessed = revision;
    }

    /// Whoever watches everything was told to start again. Asked once.
    pub(crate) fn has_lost_its_witness(&self) -> bool {
        std::mem::take(&mut self.shared.lock().blind)
    }

    pub(crate) fn lose_witness(&self) {
        self.shared.lock().blind = true;
    }

    /// What is compacted above this cannot be held against anything any more.
    pub(crate) fn witnessed(&self) -> i64 {
        self.shared.lock().witnessed
    }

    pub(crate) fn granted(&self, lease: i64) {
        self.shared.lock().leases.insert(lease);
    }

    pub(crate) fn leases(&self) -> Vec<i64> {
        self.shared.lock().leases.iter().copied().collect()
    }

    pub(crate) fn compacts(&self, revision: i64) {
        let mut shared = self.shared.lock();
        shared.compacted = shared.compacted.max(revision);
    }

    pub(crate) fn recorder(&self) -> Recorder {
        self.shared.lock().recorder.clone()
    }

    /// Where the segment began.
    pub(crate) fn from(&self) -> i64 {
        self.shared.lock().before.revision
    }

    // === the conductor's side ===

    /// Nobody begins anything any more; waits until what was begun has ended.
    pub(crate) async fn rest(&self) {
        self.now.send_modify(|now| now.0 = Phase::Rest);
        while self.shared.lock().under_way > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn go(&self, phase: Phase) {
        self.now.send_modify(|now| now.0 = phase);
    }

    /// The history so far, with nothing known of its end.
    pub(crate) fn cut(&self) {
        let mut shared = self.shared.lock();
        let segment = shared.finish(None);
        shared.segments.push(segment);
    }

    /// Begins a segment with what is there.
    pub(crate) fn begin_with(&self, known: Known) {
        {
            let mut shared = self.shared.lock();
            shared.given = shared.given.max(known.revision);
            shared.before = known;
        }
        self.now.send_modify(|now| now.1 += 1);
    }

    /// Ends the last segment, and gives back all of them.
    pub(crate) fn end_with(&self, known: Known) {
        let mut shared = self.shared.lock();
        let after = (!shared.blind).then_some(known);
        let segment = shared.finish(after);
        shared.segments.push(segment);
    }

    pub(crate) fn segments(&self) -> Vec<Segment> {
        std::mem::take(&mut self.shared.lock().segments)
    }
}

impl Shared {
    fn finish(&mut self, after: Option<Known>) -> Segment {
        let history = self.recorder.history();
        // Writes of unknown outcome may still take effect; all else writes into a new history.
        let old = std::mem::take(&mut self.recorder);
        let recorder = Recorder::default();
        for operation in old.take().operations {
            drop(recorder.begin(operation.client, operation.step));
        }
        self.recorder = recorder;
        Segment {
            history,
            before: self.before.clone(),
            after,
            compacted: self.compacted,
            recovered: !self.segments.is_empty(),
            leases: self.leases.clone(),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stage.shared.lock().under_way -= 1;
    }
}
