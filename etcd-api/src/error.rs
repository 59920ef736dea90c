//! etcd's errors with their exact code and text.
//!
//! Clients match the text byte for byte (`errStringToError` in etcd's
//! `api/v3rpc/rpctypes/error.go`, the source of this table), so it is part of the API.

use crate::{Code, Status};

/// An error that an etcd server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EtcdError {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    InvalidClientApiVersion,
    InvalidSortOption,
    Compacted,
    FutureRev,
    NoSpace,
    LeaseNotFound,
    LeaseExist,
    LeaseTtlTooLarge,
    WatchCanceled,
    MemberExist,
    PeerUrlExist,
    MemberNotEnoughStarted,
    MemberBadUrls,
    MemberNotFound,
    MemberNotLearner,
    LearnerNotReady,
    TooManyLearners,
    ClusterIdMismatch,
    RequestTooLarge,
    RequestTooManyRequests,
    RootUserNotExist,
    RootRoleNotExist,
    UserAlreadyExist,
    UserEmpty,
    UserNotFound,
    RoleAlreadyExist,
    RoleNotFound,
    RoleEmpty,
    AuthFailed,
    PermissionNotGiven,
    PermissionDenied,
    RoleNotGranted,
    PermissionNotGranted,
    AuthNotEnabled,
    InvalidAuthToken,
    InvalidAuthMgmt,
    AuthOldRevision,
    NoLeader,
    NotLeader,
    LeaderChanged,
    NotCapable,
    Stopped,
    Timeout,
    TimeoutDueToLeaderFail,
    TimeoutDueToConnectionLost,
    TimeoutWaitAppliedIndex,
    Unhealthy,
    Corrupt,
    NotSupportedForLearner,
    BadLeaderTransferee,
    WrongDowngradeVersionFormat,
    InvalidDowngradeTargetVersion,
    ClusterVersionUnavailable,
    DowngradeInProcess,
    NoInflightDowngrade,
    Canceled,
    DeadlineExceeded,
}

impl EtcdError {
    /// Every error of the table.
    pub const ALL: &[Self] = &[
        Self::EmptyKey,
        Self::KeyNotFound,
        Self::ValueProvided,
        Self::LeaseProvided,
        Self::TooManyOps,
        Self::DuplicateKey,
        Self::InvalidClientApiVersion,
        Self::InvalidSortOption,
        Self::Compacted,
        Self::FutureRev,
        Self::NoSpace,
        Self::LeaseNotFound,
        Self::LeaseExist,
        Self::LeaseTtlTooLarge,
        Self::WatchCanceled,
        Self::MemberExist,
        Self::PeerUrlExist,
        Self::MemberNotEnoughStarted,
        Self::MemberBadUrls,
        Self::MemberNotFound,
        Self::MemberNotLearner,
        Self::LearnerNotReady,
        Self::TooManyLearners,
        Self::ClusterIdMismatch,
        Self::RequestTooLarge,
        Self::RequestTooManyRequests,
        Self::RootUserNotExist,
        Self::RootRoleNotExist,
        Self::UserAlreadyExist,
        Self::UserEmpty,
        Self::UserNotFound,
        Self::RoleAlreadyExist,
        Self::RoleNotFound,
        Self::RoleEmpty,
        Self::AuthFailed,
        Self::PermissionNotGiven,
        Self::PermissionDenied,
        Self::RoleNotGranted,
        Self::PermissionNotGranted,
        Self::AuthNotEnabled,
        Self::InvalidAuthToken,
        Self::InvalidAuthMgmt,
        Self::AuthOldRevision,
        Self::NoLeader,
        Self::NotLeader,
        Self::LeaderChanged,
        Self::NotCapable,
        Self::Stopped,
        Self::Timeout,
        Self::TimeoutDueToLeaderFail,
        Self::TimeoutDueToConnectionLost,
        Self::TimeoutWaitAppliedIndex,
        Self::Unhealthy,
        Self::Corrupt,
        Self::NotSupportedForLearner,
        Self::BadLeaderTransferee,
        Self::WrongDowngradeVersionFormat,
        Self::InvalidDowngradeTargetVersion,
        Self::ClusterVersionUnavailable,
        Self::DowngradeInProcess,
        Self::NoInflightDowngrade,
        Self::Canceled,
        Self::DeadlineExceeded,
    ];

    /// The gRPC code that etcd sends.
    #[must_use]
    pub fn code(self) -> Code {
        self.row().0
    }

    /// The gRPC message that etcd sends, to the letter.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().1
    }

    /// Recognises an error that a store answered.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|error| error.code() == status.code() && error.text() == status.message())
    }

    fn row(self) -> (Code, &'static str) {
        match self {
            Self::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Self::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Self::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            Self::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            Self::TooManyOps => (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            Self::DuplicateKey => (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            Self::InvalidClientApiVersion => (
                Code::InvalidArgument,
                "etcdserver: invalid client api version",
            ),
            Self::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            Self::Compacted => (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            Self::FutureRev => (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            Self::NoSpace => (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            Self::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Self::LeaseExist => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Self::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Self::WatchCanceled => (Code::Cancelled, "etcdserver: watch canceled"),
            Self::MemberExist => (
                Code::FailedPrecondition,
                "etcdserver: member ID already exist",
            ),
            Self::PeerUrlExist => (
                Code::FailedPrecondition,
                "etcdserver: Peer URLs already exists",
            ),
            Self::MemberNotEnoughStarted => (
                Code::FailedPrecondition,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            Self::MemberBadUrls => (
                Code::InvalidArgument,
                "etcdserver: given member URLs are invalid",
            ),
            Self::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
            Self::MemberNotLearner => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member",
            ),
            Self::LearnerNotReady => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Self::TooManyLearners => (
                Code::FailedPrecondition,
                "etcdserver: too many learner members in cluster",
            ),
            Self::ClusterIdMismatch => {
                (Code::FailedPrecondition, "etcdserver: cluster ID mismatch")
            }
            Self::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            Self::RequestTooManyRequests => {
                (Code::ResourceExhausted, "etcdserver: too many requests")
            }
            Self::RootUserNotExist => (
                Code::FailedPrecondition,
                "etcdserver: root user does not exist",
            ),
            Self::RootRoleNotExist => (
                Code::FailedPrecondition,
                "etcdserver: root user does not have root role",
            ),
            Self::UserAlreadyExist => (
                Code::FailedPrecondition,
                "etcdserver: user name already exists",
            ),
            Self::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
            Self::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
            Self::RoleAlreadyExist => (
                Code::FailedPrecondition,
                "etcdserver: role name already exists",
            ),
            Self::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
            Self::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
            Self::AuthFailed => (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            Self::PermissionNotGiven => (Code::InvalidArgument, "etcdserver: permission not given"),
            Self::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
            Self::RoleNotGranted => (
                Code::FailedPrecondition,
                "etcdserver: role is not granted to the user",
            ),
            Self::PermissionNotGranted => (
                Code::FailedPrecondition,
                "etcdserver: permission is not granted to the role",
            ),
            Self::AuthNotEnabled => (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
            ),
            Self::InvalidAuthToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
            Self::InvalidAuthMgmt => (Code::InvalidArgument, "etcdserver: invalid auth management"),
            Self::AuthOldRevision => (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
            ),
            Self::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Self::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Self::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            Self::NotCapable => (Code::FailedPrecondition, "etcdserver: not capable"),
            Self::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Self::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            Self::TimeoutDueToLeaderFail => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            Self::TimeoutDueToConnectionLost => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            Self::TimeoutWaitAppliedIndex => (
                Code::Unavailable,
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            Self::Unhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
            Self::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
            Self::NotSupportedForLearner => (
                Code::FailedPrecondition,
                "etcdserver: rpc not supported for learner",
            ),
            Self::BadLeaderTransferee => (
                Code::FailedPrecondition,
                "etcdserver: bad leader transferee",
            ),
            Self::WrongDowngradeVersionFormat => (
                Code::InvalidArgument,
                "etcdserver: wrong downgrade target version format",
            ),
            Self::InvalidDowngradeTargetVersion => (
                Code::InvalidArgument,
                "etcdserver: invalid downgrade target version",
            ),
            Self::ClusterVersionUnavailable => (
                Code::FailedPrecondition,
                "etcdserver: cluster version not found during downgrade",
            ),
            Self::DowngradeInProcess => (
                Code::FailedPrecondition,
                "etcdserver: cluster has a downgrade job in progress",
            ),
            Self::NoInflightDowngrade => (
                Code::FailedPrecondition,
                "etcdserver: no inflight downgrade job",
            ),
            Self::Canceled => (Code::Cancelled, "etcdserver: request canceled"),
            Self::DeadlineExceeded => (
                Code::DeadlineExceeded,
                "etcdserver: context deadline exceeded",
            ),
        }
    }
}

impl From<EtcdError> for Status {
    fn from(error: EtcdError) -> Self {
        Self::new(error.code(), error.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_recognised_by_code_and_text() {
        for &error in EtcdError::ALL {
            let status = Status::from(error);
            assert_eq!(EtcdError::of(&status), Some(error));
            assert!(status.message().starts_with("etcdserver: "));
        }
    }

    #[test]
    fn the_texts_that_kubernetes_matches_are_to_the_letter() {
        let compacted = Status::from(EtcdError::Compacted);
        assert_eq!(compacted.code(), Code::OutOfRange);
        assert_eq!(
            compacted.message(),
            "etcdserver: mvcc: required revision has been compacted"
        );
        assert_eq!(
            EtcdError::FutureRev.text(),
            "etcdserver: mvcc: required revision is a future revision"
        );
    }

    #[test]
    fn a_text_with_another_code_is_not_recognised() {
        let status = Status::new(Code::Internal, EtcdError::Compacted.text());
        assert_eq!(EtcdError::of(&status), None);
    }
}
