//! Keyloom with one of its rules left out. Each must break a promise, or the model could not tell
//! whether the rule is there.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Without {
    /// Keyloom as it is.
    Nothing,

    // ordering
    /// Rule 3: answers of the default store wait while the revision of an own write is unknown.
    OwnWriteAwaited,
    /// Rule 8: an answer leaves only below what is reserved.
    Reservation,
    /// The header of an answer that wrote nothing is just below the store's next revision.
    HeaderBelowNext,
    /// An answer below what was seen of a store shuts the store out.
    WentBackSeen,
    /// An answer of another cluster shuts the store out.
    ClusterSeen,

    // recovery
    /// Rule 6: what was reserved becomes a hole when the order is lost.
    Hole,
    /// Rule 6: the floor of a store whose order was lost is above the lost run.
    Floor,
    /// Rule 3: the writes that took the leadership are known to be hidden.
    TakingsKnown,
    /// Rule 6: a store that was absent when the order was lost is taken in as a lost run.
    Return,

    // leadership
    /// Rule 8: every own write is compared with the one before.
    Compare,
    /// Rule 8: nothing leaves past the leadership.
    DeadlineCheck,
    /// Rule 8: a successor waits for the end of the leadership.
    SuccessorWait,
    /// Rule 8: the leadership counts from before the renewal was sent.
    CountedFromSending,

    // watches
    /// A merged watch goes no further than every store of its span has delivered.
    Bound,
    /// A merged watch goes nowhere while it is not known what of a store was given out.
    AbsentHeld,
    /// Watches from before start again when a store is back that was away while the order was lost.
    ReturnCancels,
    /// A watch below the floor of its span is refused.
    WatchFloor,

    // compaction
    /// A compaction is written with the ledger before anybody is told.
    CompactionRecorded,
    /// A store is compacted no further than its watch has delivered.
    CompactionBehindWatch,
    /// A hub that lost its place raises the store's floor.
    LossRaisesFloor,

    // routes
    /// Writes to what moves are held and waited for.
    Drain,
    /// Keys that a change would hide are looked for.
    HiddenKeysChecked,
    /// The change is written before anything leaves above it.
    ChangeRecorded,
    /// A watch over what moved begins above the change.
    WatchAboveChange,
    /// Watches that would gain keys without an event are cancelled.
    GainedCancelled,
    /// What others write of it to either store, or a call that was given up, between the look for keys
    /// and the change is seen before the change.
    AmidChangeSeen,

    // leases
    /// What changes one lease on one store comes one after the other.
    Turns,
    /// The default store is asked before a lease comes to another store.
    DefaultAsked,
    /// What is not remembered is unknown, and asked of every store.
    UnknownIsAsked,
    /// A revoke ends a lease on the default store last.
    DefaultLast,
}
