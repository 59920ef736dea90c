//! Follows one store by its own watch, for as long as the instance lives.

use std::{convert::Infallible, sync::Arc};

use futures_util::StreamExt as _;
use keyloom_hub::{Feed, Step};
use keyloom_ledger::StoreRev;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{FeedEnd, Feeds, PAUSE};
use crate::world::Member;

pub(super) async fn follow(feeds: Arc<Feeds>, member: Member) {
    let stop = feeds.stop.clone();
    let follow = async {
        loop {
            let Err(error) = read(&feeds, &member).await;
            debug!(store = member.name, %error, "the store's watch ended; opening it again");
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _never = follow => {}
    }
}

/// Reads until the watch ends.
async fn read(feeds: &Arc<Feeds>, member: &Member) -> Result<Infallible, FeedEnd> {
    let delivered = feeds.with(|hub, _| hub.delivered(member.slot)).flatten();
    let mut feed = Feed::after(delivered.unwrap_or(StoreRev::FIRST));
    let mut answers = feeds.open(member, &feed).await?;
    while let Some(answer) = answers.next().await {
        let taken = feed.take(&answer?)?;
        feeds.recognise(member, taken.header.cluster_id)?;
        match taken.step {
            Step::Groups(groups) => {
                let Some(last) = groups.last() else { continue };
                feeds.settle(member.slot, last.revision).await?;
                let taken = feeds.with(|hub, order| hub.take(member.slot, groups, order));
                taken.transpose()?;
            }
            // Nobody asks for it on a watch over everything.
            Step::Upto(_) => {}
            Step::Compacted(begin) => {
                lost(feeds, member, begin).await?;
                return Err(FeedEnd::Ended("compacted".to_owned()));
            }
            Step::Ended(reason) => return Err(FeedEnd::Ended(reason)),
        }
    }
    Err(FeedEnd::Ended("without a word".to_owned()))
}

/// What lies below `begin` and was not delivered is lost to every watcher.
async fn lost(feeds: &Arc<Feeds>, member: &Member, begin: StoreRev) -> Result<(), FeedEnd> {
    feeds.settle(member.slot, begin).await?;
    let begun = feeds.begun.get(&member.slot).copied().unwrap_or_default();
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
    if let Some(floor) = floor.flatten() {
        warn!(
            store = member.name,
            floor = floor.get(),
            "the store was compacted above what its watch had delivered: watches below begin anew"
        );
    }
    Ok(())
}
