//! What one watch stream was told, checked as it comes, and compared with what another was told.
//!
//! How events of different revisions are divided into responses is free; what each watch is told,
//! in which order, and that a revision comes whole, is not.

use std::collections::BTreeMap;

use keyloom_etcd_api::{etcdserverpb::WatchResponse, mvccpb::Event};

/// What the revisions in headers are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// etcd's own run ahead of events while a watcher catches up.
    #[default]
    Any,
    /// No watch gets an event at or below a header that it was sent.
    NeverAhead,
}

/// The log of one stream.
#[derive(Clone, Debug, Default)]
pub struct WatchLog {
    headers: Headers,
    /// The answers to creates, in order.
    created: Vec<Created>,
    watches: BTreeMap<i64, Watch>,
    /// The revisions of progress that speaks for all watches.
    progress: Vec<i64>,
    /// The revisions of progress by watch.
    ticks: Vec<(i64, i64)>,
    /// The id and revision of a response of which more is to come.
    fragment: Option<(i64, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Created {
    id: i64,
    refused: Option<String>,
}

/// All watches of one id, one after the other.
#[derive(Clone, Debug, Default)]
struct Watch {
    told: Vec<WatchMessage>,
    open: bool,
    /// Every event to come is above.
    above: i64,
}

#[derive(Clone, Debug, PartialEq)]
enum WatchMessage {
    Created,
    Event(Box<Event>),
    Canceled {
        reason: String,
        compact_revision: i64,
    },
}

impl WatchLog {
    /// An empty log.
    #[must_use]
    pub fn new(headers: Headers) -> Self {
        Self {
            headers,
            ..Self::default()
        }
    }

    /// The ids that are taken: of a watch that was lost to a compaction, until it is cancelled.
    #[must_use]
    pub fn ids(&self) -> Vec<i64> {
        let taken = self.watches.iter().filter(|(_, watch)| {
            watch.open
                || matches!(
                    watch.told.last(),
                    Some(WatchMessage::Canceled { compact_revision, .. }) if *compact_revision > 0
                )
        });
        taken.map(|(id, _)| *id).collect()
    }

    /// The ids that are taken by watches whose history is gone.
    #[must_use]
    pub fn lost(&self) -> Vec<i64> {
        let ids = self.ids();
        let open = |id: &i64| self.watches.get(id).is_some_and(|watch| watch.open);
        ids.into_iter().filter(|id| !open(id)).collect()
    }

    /// How much was told, progress aside.
    #[must_use]
    pub fn len(&self) -> usize {
        let told = self.watches.values().map(|watch| watch.told.len());
        self.created.len() + told.sum::<usize>()
    }

    /// Whether nothing was told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events of all watches.
    #[must_use]
    pub fn events(&self) -> usize {
        let told = self.watches.values().flat_map(|watch| &watch.told);
        told.filter(|told| matches!(told, WatchMessage::Event(_)))
            .count()
    }

    /// The revisions of progress that spoke for all watches.
    #[must_use]
    pub fn progress(&self) -> &[i64] {
        &self.progress
    }

    /// The ids and revisions of progress that spoke for one watch.
    #[must_use]
    pub fn ticks(&self) -> &[(i64, i64)] {
        &self.ticks
    }

    /// The open watches, and from which revision on each must be opened again.
    #[must_use]
    pub fn resume(&self) -> Vec<(i64, i64)> {
        let open = self.watches.iter().filter(|(_, watch)| watch.open);
        open.map(|(id, watch)| (*id, watch.above + 1)).collect()
    }

    /// Takes the next response.
    ///
    /// # Errors
    /// What it breaks, whatever the other side was told.
    pub fn take(&mut self, response: &WatchResponse) -> Result<(), String> {
        let revision = match &response.header {
            Some(header) => header.revision,
            None => return Err("a response has no header".to_owned()),
        };
        let id = response.watch_id;
        if let Some((open, _)) = self.fragment
            && (open != id || response.events.is_empty())
        {
            return Err(format!("watch {open}'s fragments are interrupted by {id}"));
        }
        if response.created {
            return self.created(response, revision);
        }
        if id == -1 && response.events.is_empty() && !response.canceled {
            self.progress.push(revision);
            for watch in self.watches.values_mut().filter(|watch| watch.open) {
                watch.above = watch.above.max(revision);
            }
            return Ok(());
        }
        let lost = self.lost().contains(&id);
        let watch = self.watches.entry(id).or_default();
        let is_late_cancel = lost && response.canceled;
        if !watch.open && !is_late_cancel {
            return Err(format!("watch {id} is told something and is not open"));
        }
        if response.canceled {
            watch.open = false;
            watch.told.push(WatchMessage::Canceled {
                reason: response.cancel_reason.clone(),
                compact_revision: response.compact_revision,
            });
            return Ok(());
        }
        if response.events.is_empty() {
            watch.above = watch.above.max(revision);
            self.ticks.push((id, revision));
            return Ok(());
        }
        self.events_of(response, revision)
    }

    fn created(&mut self, response: &WatchResponse, revision: i64) -> Result<(), String> {
        let id = response.watch_id;
        if !response.events.is_empty() {
            return Err(format!("watch {id} is created with events"));
        }
        let refused = response.canceled.then(|| response.cancel_reason.clone());
        if refused.is_none() {
            let watch = self.watches.entry(id).or_default();
            if watch.open {
                return Err(format!("watch {id} is created twice"));
            }
            watch.open = true;
            watch.told.push(WatchMessage::Created);
            watch.above = match self.headers {
                Headers::Any => 0,
                Headers::NeverAhead => revision,
            };
        }
        self.created.push(Created { id, refused });
        Ok(())
    }

    fn events_of(&mut self, response: &WatchResponse, revision: i64) -> Result<(), String> {
        let id = response.watch_id;
        let begun = self.fragment.map(|(_, begun)| begun);
        let watch = self.watches.entry(id).or_default();
        // A fragment may go on with the revision with which the one before ended.
        let mut last = begun.unwrap_or(watch.above + 1);
        for event in &response.events {
            let Some(kv) = &event.kv else {
                return Err(format!("watch {id} has an event without a key"));
            };
            if kv.mod_revision < last {
                return Err(format!(
                    "watch {id} is told of revision {} where {last} or more must come",
                    kv.mod_revision
                ));
            }
            last = kv.mod_revision;
            watch
                .told
                .push(WatchMessage::Event(Box::new(event.clone())));
        }
        if revision < last {
            return Err(format!("watch {id}: header {revision} is below {last}"));
        }
        self.fragment = response.fragment.then_some((id, last));
        if !response.fragment {
            watch.above = match self.headers {
                Headers::Any => last,
                Headers::NeverAhead => revision,
            };
        }
        Ok(())
    }

    /// Whether `got` was told the same. Nothing is compared of what `got` was not told yet, where
    /// `complete` is not set. Up to `compacted` etcd has no previous values any more; somebody who
    /// remembers them may tell them.
    ///
    /// # Errors
    /// The first difference.
    pub fn same(&self, got: &Self, compacted: i64, complete: bool) -> Result<(), String> {
        let lists = (&self.created[..], &got.created[..]);
        agree("the answers to creates", lists, complete, |a, b| a == b)?;
        let none = Watch::default();
        for id in self.watches.keys().chain(got.watches.keys()) {
            let told = |log: &Self| log.watches.get(id).unwrap_or(&none).told.clone();
            let (expected, got) = (told(self), told(got));
            let same = |a: &WatchMessage, b: &WatchMessage| is_same(a, b, compacted);
            agree(&format!("watch {id}"), (&expected, &got), complete, same)?;
        }
        Ok(())
    }
}

fn is_same(expected: &WatchMessage, got: &WatchMessage, compacted: i64) -> bool {
    if let (WatchMessage::Event(expected), WatchMessage::Event(got)) = (expected, got)
        && expected.prev_kv.is_none()
        && let (Some(kv), Some(previous)) = (&got.kv, &got.prev_kv)
        && kv.mod_revision <= compacted
    {
        let mut without = got.clone();
        without.prev_kv = None;
        return *expected == without
            && previous.key == kv.key
            && previous.mod_revision < kv.mod_revision
            && kv.create_revision != kv.mod_revision;
    }
    expected == got
}

fn agree<T: std::fmt::Debug>(
    what: &str,
    (expected, got): (&[T], &[T]),
    complete: bool,
    same: impl Fn(&T, &T) -> bool,
) -> Result<(), String> {
    for (at, got) in got.iter().enumerate() {
        match expected.get(at) {
            Some(expected) if same(expected, got) => {}
            expected => {
                return Err(format!(
                    "{what}, number {at}\nexpected {expected:#?}\ngot {got:#?}"
                ));
            }
        }
    }
    match expected.get(got.len()) {
        Some(missing) if complete => Err(format!("{what}: missing {missing:#?}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
