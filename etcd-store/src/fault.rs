//! What became of a request that has no answer, and what may be done about it. Pure.
//!
//! The one question that matters is whether the store may have acted. h2 is sure that it did not
//! in three cases only, and everything else counts as maybe:
//!
//! - h2 does not take the request: the connection had ended or was ending (`Failure::not_taken`).
//! - The peer reset the stream with `REFUSED_STREAM` before any answer: RFC 9113, 8.7 guarantees
//!   that it was not processed.
//! - The error is the peer's GOAWAY: h2 gives that error to streams above the last one that the
//!   peer says it may have processed (`Inner::recv_go_away`), and to those it never opened. A
//!   stream at or below it that dies with the connection gets an I/O error instead.

use keyloom_etcd_api::{EtcdError, Rpc, Status};

use keyloom_planted::{Bug, planted};

use super::refusal;
use keyloom_store::CallError;

/// Why one try of a call has no answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The store answered with an error.
    Refused(Status),
    /// It is certain that the store has not seen the whole request and will not act on it.
    Unsent(String),
    /// The store may have acted.
    Lost(String),
}

impl Fault {
    /// Whether the call may be made again, at another endpoint or on another connection.
    pub(super) fn may_be_tried_again(&self, idempotent: bool) -> bool {
        match self {
            Self::Unsent(_) => true,
            Self::Lost(_) => idempotent || planted(Bug::WriteSentTwice),
            Self::Refused(status) => idempotent && refusal::is_of_the_endpoint(status),
        }
    }
}

impl Fault {
    /// Whether the call is one that only the leader answers, and this member is another one: it has
    /// done nothing (`MoveLeader` in etcd's `server/etcdserver/api/v3rpc/maintenance.go`).
    pub(super) fn names_the_wrong_member(&self, rpc: Rpc) -> bool {
        let Self::Refused(status) = self else {
            return false;
        };
        rpc == Rpc::MoveLeader && EtcdError::of(status) == Some(EtcdError::NotLeader)
    }
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(status) => Self::Refused(status),
            Fault::Unsent(cause) => Self::NotSent(cause),
            Fault::Lost(cause) => Self::Unknown(cause),
        }
    }
}

/// What becomes of the connection that a fault was seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Only this call ended.
    Lives,
    /// It takes no more calls: the peer said so, or it was closed before this one.
    Ends,
    /// It broke with this call on it.
    Broke,
}

/// A fault on a connection.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) fate: Fate,
}

impl Failure {
    /// A request that h2 did not take.
    pub(super) fn not_taken(error: &h2::Error) -> Self {
        Self {
            fault: Fault::Unsent(error.to_string()),
            fate: Fate::Ends,
        }
    }

    /// What it means that a request that was taken has no answer.
    pub(super) fn of_send(error: &h2::Error) -> Self {
        let fate = match error {
            _ if error.is_remote() && error.is_go_away() => Fate::Ends,
            _ if error.is_reset() => Fate::Lives,
            _ => Fate::Broke,
        };
        let refused = error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let fault = match fate {
            Fate::Ends => Fault::Unsent(error.to_string()),
            Fate::Lives if refused => Fault::Unsent(error.to_string()),
            Fate::Lives | Fate::Broke => Fault::Lost(error.to_string()),
        };
        Self { fault, fate }
    }

    /// What the end of an answer before its trailers means.
    pub(super) fn of_answer(error: &h2::Error) -> Self {
        let fate = match error.is_reset() {
            true => Fate::Lives,
            false => Fate::Broke,
        };
        let fault = Fault::Lost(error.to_string());
        Self { fault, fate }
    }

    /// An answer that makes no sense.
    pub(super) fn nonsense(what: impl Into<String>) -> Self {
        Self {
            fault: Fault::Lost(what.into()),
            fate: Fate::Lives,
        }
    }

    /// An error that the store answered.
    pub(super) fn refused(status: Status) -> Self {
        Self {
            fault: Fault::Refused(status),
            fate: Fate::Lives,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leader_can_hand_over() {
        let not_leader = Fault::Refused(EtcdError::NotLeader.into());
        assert!(not_leader.names_the_wrong_member(Rpc::MoveLeader));
        assert!(!not_leader.names_the_wrong_member(Rpc::Put));
        let other = Fault::Refused(EtcdError::BadLeaderTransferee.into());
        assert!(!other.names_the_wrong_member(Rpc::MoveLeader));
        assert!(!Fault::Lost(String::new()).names_the_wrong_member(Rpc::MoveLeader));
    }

    #[test]
    fn what_may_be_tried_again() {
        let unsent = Fault::Unsent(String::new());
        let lost = Fault::Lost(String::new());
        let no_leader = Fault::Refused(EtcdError::NoLeader.into());
        let compacted = Fault::Refused(EtcdError::Compacted.into());
        // The fault, and whether a read and a write may be tried again.
        for (fault, read, write) in [
            (&unsent, true, true),
            (&lost, true, false),
            (&no_leader, true, false),
            (&compacted, false, false),
        ] {
            assert_eq!(fault.may_be_tried_again(true), read, "{fault:?}");
            assert_eq!(fault.may_be_tried_again(false), write, "{fault:?}");
        }
    }
}
