//! What may be done about a store's refusal.

use keyloom_etcd_api::{Code, EtcdError, Status};

/// Whether the endpoint says of itself that it cannot answer now, so that another one of the
/// same store may.
pub(super) fn is_of_the_endpoint(status: &Status) -> bool {
    status.code() == Code::Unavailable
        || EtcdError::of(status) == Some(EtcdError::NotSupportedForLearner)
}

/// Whether a new token may help. All three are answered before anything is executed: the first
/// two when the token is looked at, the last when the entry is applied (etcd's
/// `server/etcdserver/apply/apply_auth.go`), so that even a write may be sent again.
pub(super) fn asks_for_a_token(status: &Status) -> bool {
    matches!(
        EtcdError::of(status),
        Some(EtcdError::InvalidAuthToken | EtcdError::UserEmpty | EtcdError::AuthOldRevision)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_refusals_another_endpoint_may_not_share() {
        for &error in EtcdError::ALL {
            let expected = matches!(
                error,
                EtcdError::NoLeader
                    | EtcdError::LeaderChanged
                    | EtcdError::Stopped
                    | EtcdError::Timeout
                    | EtcdError::TimeoutDueToLeaderFail
                    | EtcdError::TimeoutDueToConnectionLost
                    | EtcdError::TimeoutWaitAppliedIndex
                    | EtcdError::Unhealthy
                    | EtcdError::NotSupportedForLearner
            );
            assert_eq!(is_of_the_endpoint(&error.into()), expected, "{error:?}");
        }
        assert!(is_of_the_endpoint(&Status::unavailable("anything")));
    }

    #[test]
    fn which_refusals_a_new_token_may_cure() {
        for &error in EtcdError::ALL {
            let expected = matches!(
                error,
                EtcdError::InvalidAuthToken | EtcdError::UserEmpty | EtcdError::AuthOldRevision
            );
            assert_eq!(asks_for_a_token(&error.into()), expected, "{error:?}");
        }
        // Somebody else's refusal of somebody else's token.
        assert!(!asks_for_a_token(&Status::unauthenticated("no")));
    }
}
