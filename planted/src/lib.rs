//! Bugs that can be planted, to see that the simulation finds them.
//!
//! Each is of a kind that etcd, kine or a proxy over them had. The code asks [`planted`] at the
//! place where such a bug would sit. Without the feature `on` the answer is a constant: the
//! program that is shipped has neither the bugs nor the questions. With it one bug can be chosen,
//! once in a process.

/// A bug, by the place where it sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    ProgressAhead,
    CreatedAhead,
    ResumesLate,
    ResumesEarly,
    FiltersSwapped,
    PrevKvMissing,
    BackInTime,
    CatchUpGap,
    CatchUpRepeats,
    HeaderAhead,
    OrderGuessed,
    FloorForgotten,
    CompareInexact,
    ReadsTooNew,
    MoreWrong,
    CountWrong,
    PageDropsKey,
    LeadershipIgnored,
    WriteSentTwice,
    RevisionsReused,
    CompactionLosesEvents,
    CompactsAhead,
    RevisionSplit,
    RevisionTorn,
}

/// Every bug, its name, and what it does.
pub const ALL: [(Bug, &str, &str); 24] = [
    (
        Bug::ProgressAhead,
        "progress-ahead",
        "progress is told before the events up to it were",
    ),
    (
        Bug::CreatedAhead,
        "created-ahead",
        "the header of a created watch is ahead of where it begins",
    ),
    (
        Bug::ResumesLate,
        "resumes-late",
        "a watch begins one revision too late",
    ),
    (
        Bug::ResumesEarly,
        "resumes-early",
        "a watch begins one revision too early",
    ),
    (
        Bug::FiltersSwapped,
        "filters-swapped",
        "a watch without puts is one without deletes",
    ),
    (
        Bug::PrevKvMissing,
        "prev-kv-missing",
        "events lack the value before",
    ),
    (
        Bug::BackInTime,
        "back-in-time",
        "a merged watch takes the newer of two events first",
    ),
    (
        Bug::CatchUpGap,
        "catch-up-gap",
        "the first event after catching up is skipped",
    ),
    (
        Bug::CatchUpRepeats,
        "catch-up-repeats",
        "what was caught up with is told again",
    ),
    (
        Bug::HeaderAhead,
        "header-ahead",
        "an answer's header is past an event that it does not show",
    ),
    (
        Bug::OrderGuessed,
        "order-guessed",
        "after a crash the order of several stores is guessed",
    ),
    (
        Bug::FloorForgotten,
        "floor-forgotten",
        "after a crash watches go on below the hole",
    ),
    (
        Bug::CompareInexact,
        "compare-inexact",
        "a comparison takes a revision of another store for the nearest of its own",
    ),
    (
        Bug::ReadsTooNew,
        "reads-too-new",
        "a read at an old revision shows one more",
    ),
    (
        Bug::MoreWrong,
        "more-wrong",
        "`more` is false where the page ends the list of one store",
    ),
    (
        Bug::CountWrong,
        "count-wrong",
        "`count` is that of the first store",
    ),
    (
        Bug::PageDropsKey,
        "page-drops-key",
        "the last key of a page over several stores is dropped",
    ),
    (
        Bug::LeadershipIgnored,
        "leadership-ignored",
        "an instance answers past its leadership, when another has taken over",
    ),
    (
        Bug::WriteSentTwice,
        "write-sent-twice",
        "a write of unknown outcome is sent again",
    ),
    (
        Bug::RevisionsReused,
        "revisions-reused",
        "after a crash revisions that were given out are given out again",
    ),
    (
        Bug::CompactionLosesEvents,
        "compaction-loses-events",
        "a watch goes on behind what was compacted before it was told",
    ),
    (
        Bug::CompactsAhead,
        "compacts-ahead",
        "a store is compacted at its newest revision instead of the one that was asked for",
    ),
    (
        Bug::RevisionSplit,
        "revision-split",
        "the events of one transaction come in two responses",
    ),
    (
        Bug::RevisionTorn,
        "revision-torn",
        "the events of one transaction have two revisions",
    ),
];

#[cfg(feature = "on")]
static CHOSEN: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Whether this bug is planted.
#[cfg(feature = "on")]
#[must_use]
pub fn planted(bug: Bug) -> bool {
    CHOSEN.get() == Some(&bug)
}

/// Whether this bug is planted: it is not.
#[cfg(not(feature = "on"))]
#[must_use]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Plants a bug in this process. False where the program has no place for any, or where one was
/// planted before.
#[must_use]
pub fn plant(bug: Bug) -> bool {
    #[cfg(feature = "on")]
    return CHOSEN.set(bug).is_ok();
    #[cfg(not(feature = "on"))]
    {
        _ = bug;
        false
    }
}

/// The bug of a name.
#[must_use]
pub fn named(name: &str) -> Option<Bug> {
    let found = ALL.iter().find(|(_, other, _)| *other == name);
    found.map(|(bug, _, _)| *bug)
}
