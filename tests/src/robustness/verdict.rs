//! What a round is held against.

use std::collections::BTreeSet;

use keyloom_etcd_api::{
    EtcdError,
    etcdserverpb::LeaseGrantRequest,
    mvccpb::{Event, KeyValue, event::EventType},
};
use keyloom_testkit::{
    Answer, Step,
    history::{
        Facts, History, Outcome, Replay, Rules, Verdict, Watcher, check_linearizable,
        check_watches, lost_values,
    },
    model::{Etcd, Identity, Keyspace},
};
use tonic::Response;

use super::{Counts, leases::Lived, sweep};
use crate::{Client, poll, split::everything, topology::Topology};

/// Every key at a revision at which nobody writes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    revision: i64,
    keys: Vec<KeyValue>,
}

impl State {
    pub(super) async fn read(client: &Client) -> Self {
        let list = || async {
            let listed = client.kv().range(everything(0)).await;
            listed.map(Response::into_inner)
        };
        let listed = poll::eventually("a list of everything", list).await;
        Self {
            revision: listed.header.expect("a header").revision,
            keys: listed.kvs,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    fn keyspace(&self) -> Keyspace {
        Keyspace::holding(self.revision, self.keys.iter().cloned())
    }
}

/// A round that is over.
pub(super) struct Round<'a> {
    pub(super) history: History,
    /// What was compacted before the round.
    pub(super) forgotten: i64,
    /// What was forgotten in it without a compaction, each with the time from which on.
    pub(super) forgets: Vec<(u64, i64)>,
    pub(super) before: &'a State,
    pub(super) leases: Lived,
    pub(super) topology: &'a Topology,
    pub(super) headers_are_bookmarks: bool,
    /// How many changes may lack the value before.
    pub(super) values_lost: usize,
}

impl Round<'_> {
    /// Fails where something is not as etcd promises. Gives back what happened.
    pub(super) fn check(mut self, after: &State, counts: &mut Counts) -> Replay {
        counts.add_calls(&self.history);
        counts.add_leases(&self.leases.leases);
        let watchers = self.history.watchers().unwrap_or_else(|it| panic!("{it}"));
        let facts = Facts::gather(&self.history, &watchers, self.before.keyspace());
        let mut facts = facts.unwrap_or_else(|broken| panic!("{broken}"));
        facts.headers_are_bookmarks = self.headers_are_bookmarks;
        counts.compactions += facts.compactions.len() as u64;
        facts.compactions.push((0, self.forgotten));
        facts.compactions.extend(&self.forgets);
        facts.values_may_be_lost = true;
        facts.replay.extend_to(after.revision);
        check_all_watches(&watchers, &facts);
        counts.lost_values += count_lost_values(&watchers, &facts, self.values_lost);
        count_watches(&watchers, counts);
        counts.revisions += after.revision - self.before.revision;
        let operations = &mut self.history.operations;
        counts.sweeps += sweep::take_apart(operations, &facts.replay, self.topology);
        counts.keys_ended += self.check_leases(&watchers, &facts.replay);
        let told = facts.replay.all(after.revision);
        assert_eq!(told, after.keys, "what watches led to, and what is listed");
        self.check_calls(&facts.replay);
        facts.replay
    }

    fn check_calls(&mut self, replay: &Replay) {
        let ids: BTreeSet<_> = self.leases.leases.iter().map(|lease| lease.id).collect();
        let mut start = Etcd::with_keyspace(Identity::default(), self.before.keyspace());
        for &id in &ids {
            let grant = LeaseGrantRequest { ttl: 60, id };
            start.lease_grant(&grant).expect("ids that differ");
        }
        for operation in &mut self.history.operations {
            // The model's leases do not end. What was refused for that did nothing.
            if matches!(
                operation.outcome,
                Outcome::Refused(EtcdError::LeaseNotFound)
            ) {
                operation.outcome = Outcome::Never;
            }
        }
        let rules = Rules {
            start,
            witness: Some(replay.clone()),
            // A change of the topology takes a revision at which nothing happens.
            gaps: !self.forgets.is_empty(),
            ended_leases: ids,
            ..Rules::default()
        };
        match check_linearizable(&self.history, &rules) {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => panic!("{violation}"),
            Verdict::TooHard { placed, of } => panic!("too hard: {placed} of {of} in order"),
        }
    }

    /// No lease ends early; where one was revoked, its keys are gone and none comes after. Gives
    /// back how many keys ended with their lease.
    fn check_leases(&self, watchers: &[Watcher], replay: &Replay) -> u64 {
        let mut keys = 0;
        let written = self.written();
        for revision in replay.from() + 1..=replay.revision() {
            let Some(id) = replay.ended_lease(revision) else {
                continue;
            };
            // What a delete of unknown outcome did is not told from the end of a lease.
            if written.contains(&revision) || self.has_unknown() {
                continue;
            }
            let lease = self.leases.leases.iter().find(|lease| lease.id == id);
            let lease = lease.unwrap_or_else(|| panic!("nobody was granted {id:x}"));
            keys += replay.events(revision).len() as u64;
            let first_told = watchers.iter().filter_map(|it| told_at(it, revision)).min();
            let told_by = first_told.and_then(|at| self.time_after(at));
            let ends_from = if self.on_default_store(replay.events(revision)) {
                lease.ends_from
            } else {
                lease.ends_elsewhere_from
            };
            assert!(
                told_by.is_none_or(|time| time >= ends_from),
                "lease {id:x} ended too early, at revision {revision}"
            );
        }
        for lease in &self.leases.leases {
            if let Some((at, revision)) = lease.ended {
                let left = replay.all(revision).into_iter();
                let left: Vec<_> = left.filter(|kv| kv.lease == lease.id).collect();
                assert!(left.is_empty(), "{lease:?} was revoked and left {left:?}");
                self.check_no_put_after(lease.id, at);
            }
        }
        keys
    }

    fn has_unknown(&self) -> bool {
        let mut operations = self.history.operations.iter();
        operations.any(|it| matches!(it.outcome, Outcome::Unknown) && !it.step.only_reads())
    }

    fn on_default_store(&self, events: &[Event]) -> bool {
        let mut kvs = events.iter().filter_map(|event| event.kv.as_ref());
        kvs.all(|kv| self.topology.store_of(&kv.key) == 0)
    }

    fn check_no_put_after(&self, lease: i64, at: u64) {
        let late = self.history.operations.iter().find(|operation| {
            let puts = matches!(&operation.step, Step::Put(put) if put.lease == lease);
            puts && operation.invoked > at && matches!(operation.outcome, Outcome::Answered(_))
        });
        assert!(late.is_none(), "after the lease was revoked: {late:?}");
    }

    /// The revisions at which somebody is known to have written.
    fn written(&self) -> BTreeSet<i64> {
        let answers =
            self.history
                .operations
                .iter()
                .filter_map(|operation| match &operation.outcome {
                    Outcome::Answered(answer) => Some(answer),
                    _ => None,
                });
        let wrote = answers.filter(|answer| answer.wrote());
        wrote.map(Answer::revision).collect()
    }

    /// A time of the machine's clock at which a time of the recorder's was over.
    fn time_after(&self, at: u64) -> Option<tokio::time::Instant> {
        let ticks = &self.leases.ticks;
        let after = ticks.partition_point(|(tick, _)| *tick < at);
        ticks.get(after).map(|(_, time)| *time)
    }
}

fn told_at(watcher: &Watcher, revision: i64) -> Option<u64> {
    let mut events = watcher.events();
    let is_it = |event: &Event| {
        let deleted = event.r#type() == EventType::Delete;
        deleted
            && event
                .kv
                .as_ref()
                .is_some_and(|kv| kv.mod_revision == revision)
    };
    events.find(|(_, event)| is_it(event)).map(|(at, _)| at)
}

fn check_all_watches(watchers: &[Watcher], facts: &Facts) {
    let broken = check_watches(watchers, facts);
    for broken in &broken {
        eprintln!("{broken}");
    }
    if !broken.is_empty() {
        eprintln!(
            "compactions, with the times when they were asked for: {:?}",
            facts.compactions
        );
    }
    assert!(
        broken.is_empty(),
        "{} promises broken, first {}",
        broken.len(),
        broken[0]
    );
    for watcher in watchers {
        let Some(canceled) = &watcher.canceled else {
            continue;
        };
        assert!(
            canceled.asked || canceled.compact_revision != 0,
            "canceled without a reason of etcd's: {watcher:?}"
        );
    }
}

/// How many changes lacked the value before for somebody. That is the stores' doing, and rare: see
/// [`Facts::values_may_be_lost`].
fn count_lost_values(watchers: &[Watcher], facts: &Facts, most: usize) -> u64 {
    let lost = watchers.iter().flat_map(|it| lost_values(it, facts));
    let lost: BTreeSet<_> = lost.collect();
    assert!(lost.len() <= most, "without the value before: {lost:?}");
    lost.len() as u64
}

fn count_watches(watchers: &[Watcher], counts: &mut Counts) {
    for watcher in watchers {
        counts.watches += 1;
        counts.events += watcher.events().count() as u64;
        let progress = watcher.responses.iter().filter(|told| told.is_progress());
        counts.progress += progress.count() as u64;
        if let Some(canceled) = &watcher.canceled {
            counts.compacted_watches += u64::from(canceled.compact_revision != 0);
            counts.canceled_watches += u64::from(canceled.compact_revision == 0);
        }
    }
}
