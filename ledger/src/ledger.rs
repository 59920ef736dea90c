//! The ledger itself: what is appended, and every translation between the two kinds of revision.
//!
//! Two sequences carry it. `order` has, for each `u` above `start`, whose it is. `own` has, for each
//! revision of the default store above its identity, whether it is visible or hidden. A store's
//! visible revision number `v` (from 0, above its identity) joins the two:
//! `u <-> (store, v)` by `order`, `v <-> r` by `own` for the default store and by adding for others.
//!
//! Invariant: `order` has as many of the default store as `own` has visible.

use keyloom_planted::{Bug, planted};

use crate::directory::Directory;
use crate::sequence::{Sequence, Symbol};
use crate::{AddStoreError, StoreInfo, StoreRev, StoreSlot, UnifiedRev};

/// In `order`: a `u` that maps to no store. Slot `s` has the symbol `s + 1`.
pub(crate) const HOLE: Symbol = 0;
/// In `own`.
pub(crate) const VISIBLE: Symbol = 0;
/// In `own`.
pub(crate) const HIDDEN: Symbol = 1;

/// As etcd's `compactMainRev` before the first compaction: a compaction at 0 is allowed, once.
const NEVER_COMPACTED: UnifiedRev = UnifiedRev::new(-1);

/// A store at the moment when the ledger starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreStart {
    pub name: String,
    /// 0 if it is not known.
    pub cluster_id: u64,
    pub at: StoreRev,
}

/// The total order of all stores' revisions. See the crate's page for its invariants.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) directory: Directory,
    /// The head when the ledger started: at or below it history maps by identity.
    pub(crate) start: UnifiedRev,
    pub(crate) order: Sequence,
    pub(crate) own: Sequence,
    pub(crate) compacted: UnifiedRev,
    /// Counts the changes beside the two sequences, so that a flush knows of them.
    pub(crate) changes: u64,
    /// Counts the changes that a recovery could not see from the stores' revisions.
    pub(crate) structure: u64,
}

pub(crate) fn symbol(slot: StoreSlot) -> Symbol {
    slot.get().saturating_add(1)
}

// === impl Ledger: writing ===

impl Ledger {
    /// Rule 4: starts a ledger over stores as they stand; the first is the default store. The head is the
    /// largest of their revisions. Later stores of one name with an earlier one are left out.
    pub fn start(stores: &[StoreStart]) -> Self {
        let start = stores.iter().map(|s| s.at).max().unwrap_or(StoreRev::FIRST);
        let mut directory = Directory::default();
        for store in stores {
            let identity = store.at.max(StoreRev::FIRST);
            // A name that comes twice is the topology's fault, and was refused there.
            directory
                .add(new_entry(&store.name, store.cluster_id, identity))
                .ok();
        }
        Self {
            directory,
            start: UnifiedRev::new(start.max(StoreRev::FIRST).get()),
            order: Sequence::default(),
            own: Sequence::default(),
            compacted: NEVER_COMPACTED,
            changes: 0,
            structure: 0,
        }
    }

    /// Rule 4: adds a store that stands at `at`. Its revisions from 2 are appended as one run, and its floor
    /// is the end of that run. An empty store changes no revision. See [`Self::must_flush`].
    pub fn add_store(
        &mut self,
        name: &str,
        cluster_id: u64,
        at: StoreRev,
    ) -> Result<StoreSlot, AddStoreError> {
        let slot = self
            .directory
            .add(new_entry(name, cluster_id, StoreRev::FIRST))?;
        self.changes += 1;
        self.structure += 1;
        if self.observe(slot, at) {
            self.raise_floor(slot, self.head());
        }
        Ok(slot)
    }

    /// Rule 2: everything of the store that is not in the ledger yet, up to `r`, goes to the head in
    /// one run. Says whether the head moved. Does nothing for a store that is not settled, retired or
    /// unknown: an answer of it must not get a place.
    pub fn observe(&mut self, slot: StoreSlot, r: StoreRev) -> bool {
        let admitted = self
            .directory
            .get(slot)
            .is_some_and(|s| s.settled && !s.retired);
        let n = r.get() - self.frontier(slot).get();
        if !admitted || n <= 0 {
            return false;
        }
        self.append(slot, n);
        true
    }

    /// Rule 3: `r` of the default store is a write of Keyloom's own. What the store has below it is
    /// observed, and `r` takes no `u`. Says whether `r` is hidden now: a revision that has its `u`
    /// already keeps it.
    pub fn hide(&mut self, r: StoreRev) -> bool {
        let slot = StoreSlot::DEFAULT;
        if r <= self.frontier(slot) {
            return self.is_hidden(r);
        }
        self.observe(slot, StoreRev::new(r.get() - 1));
        if self.frontier(slot).get() == r.get() - 1 {
            self.own.append(HIDDEN, 1);
        }
        self.is_hidden(r)
    }

    /// Appends a hole, so that the head is at least `u`. See [`Self::must_flush`].
    pub fn skip_to(&mut self, u: UnifiedRev) {
        self.structure += 1;
        self.order.append(HOLE, u.get() - self.head().get());
    }

    /// Records a compaction. It never goes back, nor above the head.
    pub fn compact(&mut self, u: UnifiedRev) {
        self.compacted = self.compacted.max(u.min(self.head()));
        self.changes += 1;
    }

    /// Raises a store's floor. It never goes back, nor above the head. See [`Self::must_flush`].
    pub fn raise_floor(&mut self, slot: StoreSlot, u: UnifiedRev) {
        let u = u.min(self.head());
        self.structure += 1;
        self.change(slot, |store| store.floor = store.floor.max(u));
    }

    /// The store told its cluster id, which was not known.
    pub fn set_cluster_id(&mut self, slot: StoreSlot, cluster_id: u64) {
        self.change(slot, |store| store.cluster_id = cluster_id);
    }

    /// The store left the topology. What it has in the order stays; nothing is added, and recovery
    /// does not ask for it.
    pub fn retire(&mut self, slot: StoreSlot) {
        self.change(slot, |store| store.retired = true);
    }

    /// A retired store, the same incarnation, is back in the topology. Refused where another store has
    /// its name. See [`Self::must_flush`].
    pub fn revive(&mut self, slot: StoreSlot) -> Result<(), AddStoreError> {
        self.directory.check_free(slot)?;
        self.structure += 1;
        self.change(slot, |store| store.retired = false);
        Ok(())
    }

    pub(crate) fn change(&mut self, slot: StoreSlot, change: impl FnOnce(&mut StoreInfo)) {
        self.changes += 1;
        if let Some(store) = self.directory.get_mut(slot) {
            change(store);
        }
    }

    /// The hidden revisions of the default store from a place in `own` on.
    pub(crate) fn hidden_from(&self, pos: i64) -> impl Iterator<Item = StoreRev> {
        let first = self.own.rank(HIDDEN, pos);
        let identity = self.identity(StoreSlot::DEFAULT);
        (first..self.own.count(HIDDEN))
            .filter_map(|k| self.own.select(HIDDEN, k))
            .map(move |pos| StoreRev::new(identity + 1 + pos))
    }

    pub(crate) fn append(&mut self, slot: StoreSlot, n: i64) {
        self.order.append(symbol(slot), n);
        if slot == StoreSlot::DEFAULT {
            self.own.append(VISIBLE, n);
        }
    }
}

// === impl Ledger: reading ===

impl Ledger {
    /// The largest `u` that has been given out.
    pub fn head(&self) -> UnifiedRev {
        UnifiedRev::new(self.start.get() + self.order.len())
    }

    /// The head when the ledger started.
    pub fn start_head(&self) -> UnifiedRev {
        self.start
    }

    /// The store's last revision in the ledger, hidden ones included.
    pub fn frontier(&self, slot: StoreSlot) -> StoreRev {
        let n = match slot {
            StoreSlot::DEFAULT => self.own.len(),
            _ => self.order.count(symbol(slot)),
        };
        StoreRev::new(self.identity(slot) + n)
    }

    /// The `u` of a revision; none if it is hidden, or not in the ledger.
    pub fn unified(&self, slot: StoreSlot, r: StoreRev) -> Option<UnifiedRev> {
        let identity = self.known_identity(slot)?;
        if r.get() < 1 || r > self.frontier(slot) {
            return None;
        }
        if r.get() <= identity {
            return Some(UnifiedRev::new(r.get()));
        }
        let (v, visible) = self.look(slot, r);
        if visible { self.u_of(slot, v) } else { None }
    }

    /// The largest revision of the store at or below `u`, with the hidden ones that follow it: the
    /// revision at which to read the store for a snapshot at `u`. Never 0.
    pub fn store_at(&self, slot: StoreSlot, u: UnifiedRev) -> StoreRev {
        let identity = self.identity(slot);
        if u.get() < identity {
            return StoreRev::new(u.get().max(1));
        }
        let v = self.order.rank(symbol(slot), u.get() - self.start.get());
        let below = i64::from(!planted(Bug::ReadsTooNew));
        let next = self.r_of(slot, v);
        let next = next.map(|r| StoreRev::new(r.get() - below));
        next.unwrap_or_else(|| self.frontier(slot))
    }

    /// Rule 7: the revision of the store that has exactly this `u`.
    pub fn store_exact(&self, slot: StoreSlot, u: UnifiedRev) -> Option<StoreRev> {
        let identity = self.known_identity(slot)?;
        if (1..=identity).contains(&u.get()) {
            return Some(StoreRev::new(u.get()));
        }
        // What is asked for is a client's number, and may be any.
        let pos = u.get().saturating_sub(self.start.get() + 1);
        match self.order.look(symbol(slot), pos) {
            (v, false) if planted(Bug::CompareInexact) && v > 0 => self.r_of(slot, v - 1),
            (v, true) if pos >= 0 => self.r_of(slot, v),
            _ => None,
        }
    }

    /// The header of an answer at `r` that wrote nothing: just below the `u` of the store's next
    /// visible revision above `r`, or the head if there is none.
    pub fn below_next(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev {
        let r = r.max(StoreRev::FIRST);
        if r.get() < self.identity(slot) {
            return UnifiedRev::new(r.get());
        }
        if planted(Bug::HeaderAhead) {
            return self.head();
        }
        let (v, _) = self.look(slot, StoreRev::new(r.get().saturating_add(1)));
        self.u_of(slot, v)
            .map_or_else(|| self.head(), |u| UnifiedRev::new(u.get() - 1))
    }

    /// Up to where somebody who was shown a store's events up to `r` has been shown everything of
    /// it: [`Self::below_next`]. Nowhere while it is not known what of the store was given out, nor
    /// below the store's floor, above which it starts again.
    pub fn shown_up_to(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev {
        let below = self.below_next(slot, r);
        let known = self
            .store(slot)
            .is_some_and(|store| store.settled && below.get() + 1 >= store.floor.get());
        if known { below } else { UnifiedRev::default() }
    }

    /// Every store's revision at `u`, by slot; retired stores included.
    pub fn vector_at(&self, u: UnifiedRev) -> impl Iterator<Item = (StoreSlot, StoreRev)> {
        self.directory
            .iter()
            .map(move |(slot, _)| (slot, self.store_at(slot, u)))
    }

    /// The last compaction that was recorded; -1 if there was none.
    pub fn compacted(&self) -> UnifiedRev {
        self.compacted
    }

    /// The store's own floor; 0 if it has none. [`Self::compacted`] counts beside it.
    pub fn floor(&self, slot: StoreSlot) -> UnifiedRev {
        self.directory
            .get(slot)
            .map(|s| s.floor)
            .unwrap_or_default()
    }

    /// The slot of the store of that name: the one in use, or the last that was retired.
    pub fn slot(&self, name: &str) -> Option<StoreSlot> {
        self.directory.find(name)
    }

    pub fn store(&self, slot: StoreSlot) -> Option<&StoreInfo> {
        self.directory.get(slot)
    }

    /// All stores by slot, retired ones included.
    pub fn stores(&self) -> impl Iterator<Item = (StoreSlot, &StoreInfo)> {
        self.directory.iter()
    }

    /// Whether `r` of the default store is one of Keyloom's own writes.
    pub fn is_hidden(&self, r: StoreRev) -> bool {
        let pos = r.get() - self.identity(StoreSlot::DEFAULT) - 1;
        pos >= 0 && self.own.look(HIDDEN, pos).1
    }

    fn known_identity(&self, slot: StoreSlot) -> Option<i64> {
        self.directory.get(slot).map(|s| s.identity.get())
    }

    /// A store that nobody added looks empty.
    fn identity(&self, slot: StoreSlot) -> i64 {
        self.known_identity(slot).unwrap_or(StoreRev::FIRST.get())
    }

    /// How many visible revisions the store has above its identity and below `r`, and whether `r` is
    /// one, if the store has it at all.
    fn look(&self, slot: StoreSlot, r: StoreRev) -> (i64, bool) {
        let pos = r.get() - self.identity(slot) - 1;
        match slot {
            StoreSlot::DEFAULT if self.own.count(HIDDEN) > 0 => self.own.look(VISIBLE, pos),
            _ => (pos, true),
        }
    }

    /// The `u` of the store's visible revision number `v`.
    fn u_of(&self, slot: StoreSlot, v: i64) -> Option<UnifiedRev> {
        let pos = self.order.select(symbol(slot), v)?;
        Some(UnifiedRev::new(self.start.get() + 1 + pos))
    }

    /// The revision of the store's visible revision number `v`.
    fn r_of(&self, slot: StoreSlot, v: i64) -> Option<StoreRev> {
        let pos = match slot {
            StoreSlot::DEFAULT => self.own.select(VISIBLE, v)?,
            _ => (v < self.order.count(symbol(slot))).then_some(v)?,
        };
        Some(StoreRev::new(self.identity(slot) + 1 + pos))
    }
}

fn new_entry(name: &str, cluster_id: u64, identity: StoreRev) -> StoreInfo {
    StoreInfo {
        name: name.to_owned(),
        cluster_id,
        identity,
        floor: UnifiedRev::default(),
        settled: true,
        retired: false,
    }
}
