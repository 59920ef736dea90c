//! The one door through which errors leave to clients.

use keyloom_etcd_api::{Code, EtcdError, Status, wire::WireError};
use keyloom_router::{DeleteError, Refused};
use keyloom_store::CallError;

use crate::{order::OrderError, snapshot::Superseded};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// As etcd answers.
    #[error("{}", .0.text())]
    Etcd(EtcdError),
    /// A store refused the call, or gave no answer.
    #[error("store \"{store}\": {error}")]
    Store { store: String, error: CallError },
    /// A store that can not be believed, or an order that no longer stands.
    #[error("store \"{store}\" {error}")]
    Order { store: String, error: OrderError },
    /// A store's answer cannot be read.
    #[error("store \"{store}\" sent an unreadable answer: {what}")]
    Nonsense { store: String, what: String },
    /// The request means several stores where only one can serve it.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The topology refuses to split deletes.
    #[error("the range is on stores {stores}, and the topology refuses to delete over stores")]
    SplitRefused { stores: String },
    /// A store could not do its part of a split delete; nothing was deleted on it.
    #[error("{0}")]
    PartDelete(#[from] DeleteError),
    /// A split delete went through on some stores and not on another.
    #[error("keys deleted before this error: {deleted}; {cause}")]
    Partly { deleted: i64, cause: Box<Failure> },
    /// The request cannot be read.
    #[error("grpc: error unmarshalling request: {0}")]
    Malformed(String),
    /// This instance may not answer now.
    #[error("{0}")]
    Ended(OrderError),
    /// Keyloom ends.
    #[error("{0}")]
    Stopped(String),
    /// A snapshot is of one store.
    #[error(
        "this endpoint has several stores, and a snapshot is of one: save each store from its own \
         endpoints: {stores}"
    )]
    OneByOne { stores: String },
    /// The topology changed while the call was under way. No client sees it.
    #[error("the topology has changed")]
    Superseded(Superseded),
    /// A call that no server here has.
    #[error("{}", .0.message())]
    UnknownCall(Status),
    /// A call that is not there.
    #[error("{0} is not served yet")]
    Unimplemented(&'static str),
}

impl Failure {
    /// Whether a store said that the revision is compacted.
    pub(crate) fn is_compacted(&self) -> bool {
        self.etcd() == Some(EtcdError::Compacted)
    }

    /// Whether a store refused a write for what it found, which others may have changed just now.
    pub(crate) fn shows_what_is_there(&self) -> bool {
        matches!(
            self.etcd(),
            Some(EtcdError::KeyNotFound | EtcdError::LeaseNotFound)
        )
    }

    /// Which of etcd's errors it is, by a store's word or by our own.
    fn etcd(&self) -> Option<EtcdError> {
        match self {
            Self::Etcd(error) => Some(*error),
            Self::Store {
                error: CallError::Refused(status),
                ..
            } => EtcdError::of(status),
            _ => None,
        }
    }
}

impl From<EtcdError> for Failure {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error)
    }
}

impl From<Superseded> for Failure {
    fn from(superseded: Superseded) -> Self {
        Self::Superseded(superseded)
    }
}

impl From<prost::DecodeError> for Failure {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = match failure {
            Failure::Etcd(error) => return error.into(),
            Failure::Store {
                error: CallError::Refused(status),
                ..
            }
            | Failure::UnknownCall(status) => return status,
            Failure::Refused(Refused::Reserved(_)) => return EtcdError::PermissionDenied.into(),
            Failure::Store { .. }
            | Failure::Order { .. }
            | Failure::Nonsense { .. }
            | Failure::Stopped(_)
            | Failure::Ended(_)
            | Failure::Superseded(_)
            | Failure::Partly { .. } => Code::Unavailable,
            // The router says the whole text.
            Failure::Refused(refused) => return Status::invalid_argument(refused.to_string()),
            Failure::PartDelete(error) => {
                let code = match error {
                    DeleteError::TooScattered { .. } => Code::InvalidArgument,
                    _ => Code::Unavailable,
                };
                return Status::new(code, error.to_string());
            }
            Failure::SplitRefused { .. } => Code::InvalidArgument,
            // As grpc-go answers a request that it cannot decode.
            Failure::Malformed(_) => Code::Internal,
            Failure::OneByOne { .. } | Failure::Unimplemented(_) => Code::Unimplemented,
        };
        Status::new(code, format!("etcdserver: keyloom: {failure}"))
    }
}
