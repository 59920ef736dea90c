//! Follows one store by its own watch, for as long as it is in the topology.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use keyloom_hub::{Feed, Group, Step};
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_store::CallError;
use tokio::time::{Instant, interval_at, sleep};
use tracing::{debug, warn};

use super::{FeedEnd, Feeds, Followed, PAUSE, late};

/// So many answers of a store's watch go to the hub together, where they are there already.
const AT_ONCE: usize = 64;

/// How long what events replace is asked for after the start of a store's watch, and after somebody
/// last wanted it: clients of a Keyloom that was restarted come back and find their history here.
const PREVIOUS_FOR: Duration = Duration::from_secs(60);

/// No more answers than bring so many bytes: one may be large.
const BYTES_AT_ONCE: usize = 1 << 20;

pub(super) async fn follow(feeds: Arc<Feeds>, slot: StoreSlot) {
    let stop = feeds.stop.clone();
    let follow = async {
        let mut previous = Previous { at_any_rate: true };
        while let Some(followed) = feeds.followed(slot) {
            let mut changed = std::pin::pin!(followed.changed.notified());
            changed.as_mut().enable();
            // What changed since it was looked up is seen here, what changes later is told.
            if has_left(&feeds, slot) {
                return;
            }
            tokio::select! {
                // It is reached otherwise, or has left.
                () = changed => {}
                read = read(&feeds, &followed, &mut previous) => {
                    let Err(error) = read else { continue };
                    let store = &followed.member.name;
                    debug!(store, %error, "the store's watch ended; opening it again");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow => {}
    }
}

/// Whether the store left the topology and everything up to there is delivered. Nobody hears of it
/// any more then.
fn has_left(feeds: &Arc<Feeds>, slot: StoreSlot) -> bool {
    let is_over = |followed: &Followed, delivered: StoreRev| {
        followed.until.is_some_and(|until| delivered >= until)
    };
    let mut followed = feeds.followed.write();
    let Some(left) = followed.get(&slot) else {
        return true;
    };
    if left.until.is_none() {
        return false;
    }
    let left = left.clone();
    let removed = feeds.with(|hub, order| {
        let delivered = hub.delivered(slot).unwrap_or_default();
        let over = is_over(&left, delivered);
        if over {
            hub.remove_store(slot, order);
        }
        over
    });
    if removed {
        followed.remove(&slot);
        feeds.state.lock().changed.remove(&slot);
    }
    removed
}

/// Whether a store's watch asks for what its events replace.
struct Previous {
    /// Also while nobody wants it.
    at_any_rate: bool,
}

impl Previous {
    /// Whether the watch is to be opened anew, without: nobody wants it for a while.
    fn is_idle(&mut self, feeds: &Arc<Feeds>, slot: StoreSlot) -> bool {
        let wanted = feeds.with(|hub, _| hub.wants_previous(slot));
        self.at_any_rate = false;
        !wanted
    }
}

/// Reads until the watch ends. Without an error it is to be opened again at once.
async fn read(
    feeds: &Arc<Feeds>,
    followed: &Followed,
    previous: &mut Previous,
) -> Result<(), FeedEnd> {
    let member = &followed.member;
    let feed = feeds.with(|hub, _| hub.open_feed(member.slot, previous.at_any_rate));
    let mut feed = feed.unwrap_or(Feed::after(StoreRev::FIRST));
    member.store.throttle_watches();
    let answers = feeds.open(member, &feed).await?;
    // It is let in: where it was away while the order was lost, its place is known by now.
    if feeds.with(|hub, order| hub.returned(member.slot, order)) {
        return Err(FeedEnd::Ended("back above a new floor".to_owned()));
    }
    let mut answers = answers.fuse();
    let mut idle = interval_at(Instant::now() + PREVIOUS_FOR, PREVIOUS_FOR);
    loop {
        let there = tokio::select! {
            there = next_together(&mut answers) => there,
            _ = idle.tick(), if feed.asks_previous() => {
                if previous.is_idle(feeds, member.slot) {
                    return Ok(());
                }
                continue;
            }
        };
        let Some(there) = there else {
            return Err(FeedEnd::Ended("without a word".to_owned()));
        };
        let Together { groups, end } = gather(feeds, followed, &mut feed, there);
        deliver(feeds, followed, groups).await?;
        match end {
            None => {}
            Some(FollowEnd::Over(error)) => return Err(error),
            Some(FollowEnd::Compacted(begin)) => {
                lost(feeds, followed, begin).await?;
                return Err(FeedEnd::Ended("compacted".to_owned()));
            }
        }
    }
}

type StoreAnswer = Result<Bytes, CallError>;

/// The next answer, and those that are there with it. Nothing is lost where it is dropped.
async fn next_together(
    answers: &mut (impl Stream<Item = StoreAnswer> + Unpin),
) -> Option<Vec<StoreAnswer>> {
    let size = |answer: &StoreAnswer| answer.as_ref().map_or(0, Bytes::len);
    let first = answers.next().await?;
    let mut bytes = size(&first);
    let mut there = vec![first];
    while there.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
        let Some(Some(next)) = answers.next().now_or_never() else {
            break;
        };
        bytes += size(&next);
        there.push(next);
    }
    Some(there)
}

/// What answers that came together bring, up to what ends the watch.
#[derive(Default)]
struct Together {
    groups: Vec<Group>,
    end: Option<FollowEnd>,
}

enum FollowEnd {
    Over(FeedEnd),
    /// The store has history from here on.
    Compacted(StoreRev),
}

fn gather(
    feeds: &Feeds,
    followed: &Followed,
    feed: &mut Feed,
    answers: Vec<StoreAnswer>,
) -> Together {
    let mut together = Together::default();
    for answer in answers {
        match step(feeds, followed, feed, answer) {
            Ok(Step::Groups(groups)) => together.groups.extend(groups),
            // Nobody asks for it on a watch over everything.
            Ok(Step::Upto(_)) => {}
            Ok(Step::Compacted(begin)) => together.end = Some(FollowEnd::Compacted(begin)),
            Ok(Step::Ended(reason)) => together.end = Some(FollowEnd::Over(FeedEnd::Ended(reason))),
            Err(error) => together.end = Some(FollowEnd::Over(error)),
        }
        if together.end.is_some() {
            break;
        }
    }
    together
}

fn step(
    feeds: &Feeds,
    followed: &Followed,
    feed: &mut Feed,
    answer: StoreAnswer,
) -> Result<Step, FeedEnd> {
    let taken = feed.take(&answer?)?;
    feeds.recognise(&followed.member, taken.header.cluster_id)?;
    Ok(taken.step)
}

/// Hands whole revisions to the hub, once the ledger covers the last of them.
async fn deliver(
    feeds: &Arc<Feeds>,
    followed: &Followed,
    groups: Vec<Group>,
) -> Result<(), FeedEnd> {
    let member = &followed.member;
    let Some(last) = groups.last() else {
        return Ok(());
    };
    let last = last.revision;
    feeds.sequence_delivered(member.slot, last).await?;
    feeds.with(|hub, order| hub.take(member.slot, groups, order))?;
    feeds.delivered.notify_waiters();
    late::report(feeds, member);
    match followed.until {
        Some(until) if last >= until => {
            Err(FeedEnd::Ended("the store has left the topology".to_owned()))
        }
        _ => Ok(()),
    }
}

/// What lies below `begin` and was not delivered is lost to every watcher.
async fn lost(feeds: &Arc<Feeds>, followed: &Followed, begin: StoreRev) -> Result<(), FeedEnd> {
    let Followed { member, begun, .. } = followed;
    feeds.sequence_delivered(member.slot, begin).await?;
    let floor = feeds.with(|hub, order| {
        let floor = hub.compacted(member.slot, begin, order)?;
        if begin.get() <= begun.get() + 1 {
            // Only what is read again at the start is compacted: who wants it asks the store.
            return None;
        }
        // Under the hub's lock: no watch may begin below it in between.
        order.raise_floor(member.slot, floor);
        Some(floor)
    });
    feeds.delivered.notify_waiters();
    if let Some(floor) = floor {
        warn!(
            store = member.name,
            floor = floor.get(),
            "somebody else compacted the store above what its watch had delivered; watches that miss events are cancelled"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn answers_go_together_up_to_so_many_and_so_much() {
        let of = |length| Ok(Bytes::from(vec![7; length]));
        let small = (0..100).map(|_| of(10));
        let large = (0..5).map(|_| of(700 << 10));
        let mut answers = stream::iter(small.chain(large))
            .chain(stream::pending())
            .fuse();
        for (count, bytes) in [
            (64, 640),
            (38, 360 + (1400 << 10)),
            (2, 1400 << 10),
            (1, 700 << 10),
        ] {
            let there = next_together(&mut answers).await.unwrap();
            let sizes = there.iter().map(|answer| answer.as_ref().unwrap().len());
            assert_eq!((there.len(), sizes.sum()), (count, bytes));
        }
        assert!(next_together(&mut answers).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_not_lost() {
        let error = || Err(CallError::Unknown("gone".to_owned()));
        let mut answers = stream::iter([Ok(Bytes::from_static(b"a")), error()]).fuse();
        assert_eq!(next_together(&mut answers).await.unwrap().len(), 2);
        assert!(next_together(&mut answers).await.is_none());
    }
}
