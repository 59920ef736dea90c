//! Holds writes back while their keys move, and waits for those that are under way.
//!
//! A write is counted at its store before it looks at what is held, and a change of topology
//! announces what it holds before it looks at the counts: one of the two sees the other. Writes are
//! counted in turns of two kinds, so that a change waits for those that began before it and not for
//! those to other keys that began since.
//!
//! ```text
//!   write:   count in turn t ── turn is still t? ── held? ── no ──► under way
//!                   ▲                │ no            └ yes: uncount, wait for the gate
//!                   └────────────────┘
//!   change:  hold keys ── turn t+1 ── until no write of turn t ── … ── open the gate
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;
use keyloom_topology::Affected;
use tokio::sync::{Notify, watch};

use super::{ServingSnapshot, ServingStore};

/// The writes under way to one store.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    turns: [AtomicUsize; 2],
    ended: Notify,
}

impl Traffic {
    fn count(&self, turn: usize) -> &AtomicUsize {
        let [even, odd] = &self.turns;
        if turn.is_multiple_of(2) { even } else { odd }
    }

    fn leave(&self, turn: usize) {
        if self.count(turn).fetch_sub(1, Ordering::SeqCst) == 1 {
            self.ended.notify_waiters();
        }
    }

    /// Until no write of this kind of turn is under way.
    async fn until_none(&self, turn: usize) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.count(turn).load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Gate {
    turn: AtomicUsize,
    /// The keys that are held back.
    held: ArcSwapOption<Affected>,
    /// Counts the openings.
    opened: watch::Sender<u64>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            turn: AtomicUsize::new(0),
            held: ArcSwapOption::empty(),
            opened: watch::Sender::new(0),
        }
    }
}

/// A write that is under way as long as this lives.
#[derive(Debug)]
pub(crate) struct UnderWay {
    traffic: Arc<Traffic>,
    turn: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.traffic.leave(self.turn);
    }
}

/// The snapshot is no longer the one to work with: begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded;

impl Gate {
    /// Lets a write to a store through. `touches` says whether it concerns keys that are held.
    /// Waits while they are, and the caller then begins anew.
    pub(crate) async fn enter(
        &self,
        snapshot: &ServingSnapshot,
        member: &ServingStore,
        touches: impl Fn(&Affected) -> bool,
    ) -> Result<UnderWay, Superseded> {
        let mut turn = self.turn.load(Ordering::SeqCst);
        let under_way = loop {
            member.traffic.count(turn).fetch_add(1, Ordering::SeqCst);
            let under_way = UnderWay {
                traffic: Arc::clone(&member.traffic),
                turn,
            };
            let now = self.turn.load(Ordering::SeqCst);
            if now == turn {
                break under_way;
            }
            turn = now;
        };
        let is_held = match &*self.held.load() {
            None => false,
            Some(held) => touches(held),
        };
        if !is_held && !snapshot.validity.is_replaced() {
            return Ok(under_way);
        }
        drop(under_way);
        if is_held {
            self.until_open().await;
        }
        Err(Superseded)
    }

    /// Waits while something is held.
    async fn until_open(&self) {
        let mut opened = self.opened.subscribe();
        while self.held.load().is_some() {
            // The sender is ours.
            if opened.changed().await.is_err() {
                return;
            }
        }
    }

    /// Holds back what begins from now on. The gate opens when what is returned is dropped.
    pub(crate) fn hold(self: &Arc<Self>, held: Affected) -> Holding {
        self.held.store(Some(Arc::new(held)));
        Holding {
            gate: Arc::clone(self),
        }
    }
}

/// The gate is closed for some keys as long as this lives.
#[derive(Debug)]
pub(crate) struct Holding {
    gate: Arc<Gate>,
}

impl Holding {
    /// Waits until no write that began before the holding is under way to these stores.
    pub(crate) async fn drain(&self, stores: &[Arc<Traffic>]) {
        let turn = self.gate.turn.load(Ordering::SeqCst);
        // What an earlier change did not wait for until its end.
        for traffic in stores {
            traffic.until_none(turn + 1).await;
        }
        self.gate.turn.store(turn + 1, Ordering::SeqCst);
        for traffic in stores {
            traffic.until_none(turn).await;
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.gate.held.store(None);
        self.gate.opened.send_modify(|times| *times += 1);
    }
}

#[cfg(test)]
mod tests;
