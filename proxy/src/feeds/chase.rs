//! Catches one watcher up from a store's own history.
//!
//! While the watcher is slow the store's watch is closed: a chase that waits holds no place among
//! those that may read at once, so that two cannot wait for each other.

use std::sync::Arc;

use futures_util::StreamExt as _;
use keyloom_hub::{Feed, Flow, Need, Step};
use keyloom_ledger::StoreRev;
use tokio::{
    sync::{Notify, Semaphore},
    time::sleep,
};
use tracing::debug;

use super::{FeedEnd, Feeds, Followed, PAUSE, progress};
use crate::snapshot::ServingStore;

pub(super) async fn chase(feeds: Arc<Feeds>, need: Need, changed: Arc<Notify>) {
    let stop = feeds.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = until_done(&feeds, &need, &changed) => {}
    }
    feeds.state.lock().chases.remove(&need.chase);
}

async fn until_done(feeds: &Arc<Feeds>, need: &Need, changed: &Notify) {
    loop {
        match feeds.with(|hub, _| hub.chase_flow(need.chase)) {
            Flow::Done => return,
            Flow::Pause => changed.notified().await,
            Flow::Continue(after) => {
                // Without it the hub has cancelled whoever needed it.
                let Some(Followed {
                    member, chasing, ..
                }) = feeds.followed(need.slot)
                else {
                    return;
                };
                let read = tokio::select! {
                    read = read(feeds, &member, &chasing, need, after) => read,
                    // Nobody needs it any more, perhaps.
                    () = changed.notified() => Ok(()),
                };
                if let Err(error) = read {
                    debug!(store = member.name, %error, "catching up was interrupted");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Reads until the chase is over, must wait, or its watch ends.
async fn read(
    feeds: &Arc<Feeds>,
    member: &ServingStore,
    places: &Semaphore,
    need: &Need,
    after: StoreRev,
) -> Result<(), FeedEnd> {
    let _place = places.acquire().await.ok();
    let id = need.chase;
    let mut feed = if progress::can_be_trusted(member).await {
        Feed::of(need.range.clone(), after)
    } else {
        Feed::after(after)
    };
    feed = feed.with_previous(need.with_previous);
    let mut answers = feeds.open(member, &feed).await?;
    while let Some(answer) = answers.next().await {
        let taken = feed.take(&answer?)?;
        feeds.recognise(member, taken.header.cluster_id)?;
        match taken.step {
            Step::Groups(groups) => {
                let Some(last) = groups.last() else { continue };
                feeds.sequence(member.slot, last.revision).await?;
                let flow = feeds.with(|hub, order| hub.chase_take(id, groups, order));
                if !matches!(flow?, Flow::Continue(_)) {
                    return Ok(());
                }
            }
            Step::Upto(upto) => {
                feeds.sequence(member.slot, upto).await?;
                let flow = feeds.with(|hub, _| hub.chase_upto(id, upto));
                if !matches!(flow, Flow::Continue(_)) {
                    return Ok(());
                }
            }
            Step::Compacted(begin) => {
                feeds.sequence(member.slot, begin).await?;
                feeds.with(|hub, order| hub.chase_compacted(id, begin, order));
                return Ok(());
            }
            Step::Ended(reason) => return Err(FeedEnd::Ended(reason)),
        }
    }
    Err(FeedEnd::Ended("without a word".to_owned()))
}
