//! Whether what everybody was told is what one etcd would have told them.

use std::{collections::BTreeSet, sync::Arc};

use keyloom_etcd_api::{EtcdError, etcdserverpb::LeaseGrantRequest, mvccpb::KeyValue};
use keyloom_testkit::{
    Answer,
    history::{
        Broken, Facts, History, Outcome, Property, Replay, Rules, Verdict, Watcher,
        check_linearizable, check_watches,
    },
    model::{Etcd, Identity, Keyspace},
};

use crate::{
    owners::Owners,
    plan::Plan,
    stage::{Known, Segment},
    stores::SimStore,
    truth::{Follower, Truth},
};

/// How often the model may be asked before a history is too hard.
const BUDGET: u64 = 400_000;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Each begins with the name of the checker.
    pub(crate) broken: Vec<String>,
    /// Histories for which the search gave up.
    pub(crate) too_hard: u64,
    pub(crate) operations: u64,
    pub(crate) answered: u64,
    pub(crate) events: u64,
}

/// Looks at a run that is over.
pub(crate) fn judge(
    plan: &Plan,
    segments: Vec<Segment>,
    followers: &[Follower],
    stores: &[Arc<SimStore>],
) -> Findings {
    let mut findings = Findings::default();
    let mut highest = 0;
    let mut owners = Owners::default();
    for segment in segments {
        findings
            .broken
            .extend(owners.look(&segment, |key| plan.store_of(key)));
        if segment.before.revision < highest {
            let (before, seen) = (segment.before.revision, highest);
            let what = format!("revisions: {before} after {seen} had been given out");
            findings.broken.push(what);
        }
        highest = highest.max(highest_given(&segment.history));
        if let Some(after) = &segment.after {
            findings.broken.extend(same_as_stores(plan, after, stores));
        }
        check(plan, segment, &mut findings);
    }
    let truth = Truth::of(stores, |key| plan.store_of(key));
    let told = followers.iter().map(|follower| follower.check(&truth));
    findings.broken.extend(told.filter_map(Result::err));
    findings
}

fn check(plan: &Plan, mut segment: Segment, findings: &mut Findings) {
    let operations = &segment.history.operations;
    findings.operations += operations.len() as u64;
    let answered = operations
        .iter()
        .filter(|it| matches!(it.outcome, Outcome::Answered(_)));
    findings.answered += answered.count() as u64;
    let broken = match check_told(plan, &mut segment, findings) {
        Ok(replay) => check_calls(plan, &mut segment, replay, findings),
        Err(broken) => broken,
    };
    findings.broken.extend(broken);
}

/// The watches.
fn check_told(
    plan: &Plan,
    segment: &mut Segment,
    findings: &mut Findings,
) -> Result<Replay, Vec<String>> {
    let one = |broken: Broken| vec![format!("{:?}: {broken}", broken.property)];
    let mut watchers = segment.history.watchers().map_err(one)?;
    let before = keyspace(&segment.before);
    if segment.after.is_none() {
        let known = witnessed(&watchers, segment.before.revision);
        forget_above(&mut watchers, known);
        forget_answers_above(&mut segment.history, known);
    }
    let mut facts = Facts::gather(&segment.history, &watchers, before).map_err(one)?;
    facts.headers_are_bookmarks = true;
    facts.compactions.push((0, segment.compacted));
    if plan.reloads || plan.others_compact {
        // What lies below a change is behind a floor, and so is what somebody else compacted.
        facts.compactions.push((0, i64::MAX));
    }
    if segment.recovered {
        // What may have lost its order is behind a floor.
        facts.compactions.push((0, segment.before.revision));
    }
    if let Some(after) = &segment.after {
        facts.replay.extend_to(after.revision);
    }
    let more: Vec<_> = watchers
        .iter()
        .filter_map(|it| told_more(it, &facts))
        .collect();
    facts.compactions.extend(more);
    let events = watchers.iter().map(|watcher| watcher.events().count());
    findings.events += events.sum::<usize>() as u64;
    // A store that was away when the order was lost raises its floor when it returns.
    let floor = |broken: &Broken| {
        plan.crashes
            && broken.property == Property::Resumable
            && broken.what.starts_with("compacted at")
    };
    let mut broken: Vec<_> = check_watches(&watchers, &facts)
        .into_iter()
        .filter(|broken| !floor(broken))
        .flat_map(one)
        .collect();
    broken.extend(watchers.iter().filter_map(canceled_for_nothing));
    if let Some(after) = &segment.after {
        let told = facts.replay.all(after.revision);
        if told != after.keys {
            let listed = &after.keys;
            broken.push(format!(
                "final: watches led to {told:#?}, and listed is {listed:#?}"
            ));
        }
    }
    if broken.is_empty() {
        Ok(facts.replay)
    } else {
        Err(broken)
    }
}

/// Up to where somebody who watches everything was told everything.
fn witnessed(watchers: &[Watcher], from: i64) -> i64 {
    let mut up_to = from;
    for watcher in watchers {
        let request = &watcher.request;
        let everything = request.key[..] == *b"\0" && request.range_end[..] == *b"\0";
        let goes_on = watcher.start().is_some_and(|start| start <= up_to + 1);
        if everything && request.filters.is_empty() && watcher.id.is_some() && goes_on {
            up_to = up_to.max(watcher.complete_up_to());
        }
    }
    up_to
}

/// What nobody has witnessed can be held against nothing: the segment ended before.
fn forget_above(watchers: &mut [Watcher], revision: i64) {
    for watcher in watchers {
        let above = |event: &keyloom_etcd_api::mvccpb::Event| {
            event
                .kv
                .as_ref()
                .is_some_and(|kv| kv.mod_revision > revision)
        };
        let first = watcher
            .responses
            .iter()
            .position(|response| response.revision > revision || response.events.iter().any(above));
        watcher.responses.truncate(first.unwrap_or(usize::MAX));
    }
}

/// The same for calls: what an answer above says cannot be told from what leases did there.
fn forget_answers_above(history: &mut History, revision: i64) {
    for operation in &mut history.operations {
        let above = matches!(&operation.outcome, Outcome::Answered(it) if it.revision() > revision);
        if above {
            operation.outcome = if operation.step.only_reads() {
                Outcome::Never
            } else {
                Outcome::Unknown
            };
        }
    }
}

/// A watcher that is told that it is compacted is told where it is worth to begin again: at the
/// next revision that it would be told of, at most.
fn told_more(watcher: &Watcher, facts: &Facts) -> Option<(u64, i64)> {
    let canceled = watcher.canceled.as_ref()?;
    let possible = facts.compacted_by(canceled.at);
    // What is no more than was compacted needs no excuse.
    if canceled.compact_revision <= possible {
        return None;
    }
    let wanted = |revision: i64| {
        let mut events = facts.replay.events(revision).iter();
        events.any(|event| watcher.wants(event))
    };
    let known = possible.max(facts.replay.from());
    let between = (known + 1..canceled.compact_revision).any(wanted);
    let needs_less = watcher.resume_at() < possible;
    (needs_less && !between).then_some((canceled.at - 1, canceled.compact_revision))
}

fn canceled_for_nothing(watcher: &Watcher) -> Option<String> {
    let canceled = watcher.canceled.as_ref()?;
    let known = canceled.asked || canceled.compact_revision != 0;
    (!known).then(|| format!("cancel: without a reason of etcd's: {watcher:?}"))
}

/// The calls.
fn check_calls(
    plan: &Plan,
    segment: &mut Segment,
    replay: Replay,
    findings: &mut Findings,
) -> Vec<String> {
    let mut start = Etcd::with_keyspace(Identity::default(), keyspace(&segment.before));
    for &id in &segment.leases {
        // They differ.
        drop(start.lease_grant(&LeaseGrantRequest { ttl: 60, id }));
    }
    let floors = plan.reloads || plan.others_compact || segment.recovered;
    for operation in &mut segment.history.operations {
        // A change of the topology, or a lost order, leaves a floor that no compaction explains.
        if floors && matches!(operation.outcome, Outcome::Refused(EtcdError::Compacted)) {
            operation.outcome = Outcome::Never;
        }
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
        witness: Some(replay),
        ended_leases: segment.leases.iter().copied().collect::<BTreeSet<_>>(),
        // A change of the topology takes a revision, and so does a key that somebody wrote to a
        // store that it does not route to.
        gaps: plan.reloads || plan.foreign,
        budget: BUDGET,
    };
    match check_linearizable(&segment.history, &rules) {
        Verdict::Linearizable => Vec::new(),
        Verdict::Violation(violation) => vec![format!("linearizable: {violation}")],
        Verdict::TooHard { .. } => {
            findings.too_hard += 1;
            Vec::new()
        }
    }
}

fn keyspace(known: &Known) -> Keyspace {
    Keyspace::holding(known.revision, known.keys.iter().cloned())
}

fn highest_given(history: &History) -> i64 {
    let answers = history
        .operations
        .iter()
        .filter_map(|it| match &it.outcome {
            Outcome::Answered(answer) => Some(Answer::revision(answer)),
            _ => None,
        });
    answers.max().unwrap_or(0)
}

/// What is listed through Keyloom in the end is what the stores hold.
fn same_as_stores(plan: &Plan, after: &Known, stores: &[Arc<SimStore>]) -> Option<String> {
    let mut held = Vec::new();
    for (at, store) in stores.iter().enumerate() {
        let all: Vec<KeyValue> = store.model.with(|etcd| {
            let all = keyloom_etcd_api::KeyRange::all();
            etcd.keyspace()
                .range(&all, etcd.revision())
                .cloned()
                .collect()
        });
        held.extend(all.into_iter().filter(|kv| {
            let hidden = kv.key.starts_with(b"/_keyloom/");
            !hidden && plan.store_of(&kv.key).is_some_and(|store| store == at)
        }));
    }
    held.sort_by(|one, other| one.key.cmp(&other.key));
    let bare = |kv: &KeyValue| (kv.key.clone(), kv.value.clone(), kv.version, kv.lease);
    let held: Vec<_> = held.iter().map(bare).collect();
    let known = after
        .keys
        .iter()
        .filter(|kv| plan.store_of(&kv.key).is_some());
    let listed: Vec<_> = known.map(bare).collect();
    (held != listed).then(|| format!("stores: they hold {held:#?}, and listed is {listed:#?}"))
}
