//! Why the order cannot take an answer, or lets none leave.

/// Why the order cannot take an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    /// The store lost revisions that clients have seen.
    #[error(
        "went back: it answered at revision {answered} after revision {known}. It was restored or has \
         lost data. It gets no calls until the store is repaired and Keyloom is restarted"
    )]
    WentBack { known: i64, answered: i64 },
    /// The answer cannot be true.
    #[error("answered at revision {answered}, which cannot follow revision {known}")]
    Nonsense { known: i64, answered: i64 },
    /// Another cluster answers under the store's name.
    #[error("is cluster {known:x}, but cluster {answered:x} answers at its endpoint")]
    Stranger { known: u64, answered: u64 },
    /// The store has not answered since the start, when the order of its last writes was lost.
    #[error("has not answered since the start; it can be read when it answers")]
    Absent,
    /// A store has just returned, or its floor was raised.
    #[error("waits until a change is written to the ledger")]
    Recording,
    /// The right to answer was not renewed in time.
    #[error("the leadership was not renewed in time: the default store does not answer")]
    LeadershipOver,
    /// This instance no longer owns the ledger.
    #[error("the ledger can no longer be written: {0}")]
    Stopped(String),
}
