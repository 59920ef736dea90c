//! What became of a request that has no answer, and what may be done about it. Pure.
//!
//! The one question that matters is whether the store may have acted. hyper and h2 are sure that
//! it did not in three cases only, and everything else counts as maybe:
//!
//! - hyper gives the request back: the connection's task never took it (`TrySendError::message`).
//! - The peer reset the stream with `REFUSED_STREAM` before any answer: RFC 9113, 8.7 guarantees
//!   that it was not processed.
//! - The error is the peer's GOAWAY: h2 gives that error to streams above the last one that the
//!   peer says it may have processed (`Inner::recv_go_away`), and to those it never opened. A
//!   stream at or below it that dies with the connection gets an I/O error instead.

use std::error::Error as _;

use hyper::client::conn::TrySendError;
use tonic::Status;

use super::status;
use crate::port::CallError;

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
            Self::Lost(_) => idempotent,
            Self::Refused(status) => idempotent && status::is_of_the_endpoint(status),
        }
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
    /// What hyper's failure to give an answer means.
    pub(super) fn of_send<B>(error: &TrySendError<B>) -> Self {
        let text = text(error.error());
        let cause = h2_cause(error.error());
        let fate = match cause {
            _ if error.message().is_some() => Fate::Ends,
            Some(cause) if cause.is_remote() && cause.is_go_away() => Fate::Ends,
            Some(cause) if cause.is_reset() => Fate::Lives,
            _ => Fate::Broke,
        };
        let refused = cause.is_some_and(|cause| {
            cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM)
        });
        let fault = match fate {
            Fate::Ends => Fault::Unsent(text),
            Fate::Lives if refused => Fault::Unsent(text),
            Fate::Lives | Fate::Broke => Fault::Lost(text),
        };
        Self { fault, fate }
    }

    /// What the end of an answer before its trailers means.
    pub(super) fn of_answer(error: &hyper::Error) -> Self {
        let fate = match h2_cause(error) {
            Some(cause) if cause.is_reset() => Fate::Lives,
            _ => Fate::Broke,
        };
        let fault = Fault::Lost(text(error));
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

fn h2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|cause| cause.downcast_ref())
}

/// The error with its causes: hyper's own text says little.
fn text(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::EtcdError;

    use super::*;

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
