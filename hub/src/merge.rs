//! The merge: the queues of a watcher's stores, in order of the unified revision.

use std::{
    collections::vec_deque,
    iter::{Chain, Peekable},
};

use keyloom_ledger::{StoreRev, UnifiedRev};
use keyloom_planted::{Bug, planted};

use crate::{event::Entry, topic::Topic, watcher::Watcher};

/// How much goes into one response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) revisions: usize,
    pub(crate) bytes: usize,
}

/// What a watcher takes in one go.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// In order, revisions whole.
    pub(crate) entries: Vec<Entry>,
    pub(crate) bytes: usize,
    /// Whether there is more up to the bound.
    pub(crate) more: bool,
}

type Source<'a> = Peekable<Chain<vec_deque::Iter<'a, Entry>, vec_deque::Iter<'a, Entry>>>;

/// What lies above the watcher's cursor, by store: first what was chased, then the hub's.
fn sources<'a>(topic: &'a Topic, watcher: &'a Watcher) -> Vec<Source<'a>> {
    let above = |entry: &Entry| entry.unified() <= watcher.cursor;
    let source = |queue: &'a crate::topic::Queue| {
        let chase = watcher.chase(queue.slot);
        let chased = chase.map(|chase| &chase.entries);
        let hub_from = match chase {
            None => queue.entries().partition_point(above),
            Some(_) if planted(Bug::CatchUpRepeats) => queue.entries().partition_point(above),
            Some(chase) if chase.met => {
                let more = i64::from(planted(Bug::CatchUpGap));
                let known = StoreRev::new(chase.delivered.get() + more);
                let told = |entry: &Entry| above(entry) || entry.revision() <= known;
                queue.entries().partition_point(told)
            }
            Some(_) => queue.entries().len(),
        };
        let hub = queue.entries().range(hub_from..);
        let chased = match chased {
            Some(entries) => entries.range(entries.partition_point(above)..),
            None => queue.entries().range(..0),
        };
        chased.chain(hub).peekable()
    };
    topic.queues.iter().map(source).collect()
}

/// The next revision that the watcher would take, whatever the bound.
pub(crate) fn next(topic: &Topic, watcher: &Watcher) -> Option<UnifiedRev> {
    let mut sources = sources(topic, watcher);
    least(&mut sources)
}

fn least(sources: &mut [Source<'_>]) -> Option<UnifiedRev> {
    let heads = sources
        .iter_mut()
        .filter_map(|source| source.peek().map(|entry| entry.unified()));
    match planted(Bug::BackInTime) {
        true => heads.max(),
        false => heads.min(),
    }
}

/// What the watcher takes, up to `bound`.
pub(crate) fn merge(topic: &Topic, watcher: &Watcher, bound: UnifiedRev, batch: Batch) -> Merged {
    let mut merged = Merged::default();
    let mut sources = sources(topic, watcher);
    let mut revisions = 0;
    while let Some(unified) = least(&mut sources).filter(|unified| *unified <= bound) {
        if revisions >= batch.revisions || merged.bytes >= batch.bytes {
            merged.more = true;
            break;
        }
        revisions += 1;
        // Below the start of the ledger several stores may have the same `u`.
        for source in &mut sources {
            while let Some(entry) = source.next_if(|entry| entry.unified() == unified) {
                merged.bytes += entry.bytes();
                merged.entries.push(entry.clone());
            }
        }
    }
    merged
}
