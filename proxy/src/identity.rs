//! Who answers: the one maker of response headers.

use std::sync::atomic::{AtomicU64, Ordering};

use keyloom_etcd_api::{etcdserverpb::ResponseHeader, wire::Header};

/// The cluster and the member that clients see.
///
/// The cluster is the default store's own, so that putting Keyloom in front of it changes nothing
/// that a client stores. The member is Keyloom: clients that ask the member list for addresses
/// must come back here.
#[derive(Debug)]
pub(crate) struct Identity {
    cluster_id: u64,
    member_id: u64,
    /// The default store's, as last seen; never 0.
    raft_term: AtomicU64,
}

impl Identity {
    pub(crate) fn new(cluster_id: u64, raft_term: u64) -> Self {
        Self {
            cluster_id,
            member_id: member_of(cluster_id),
            raft_term: AtomicU64::new(raft_term.max(1)),
        }
    }

    pub(crate) fn member_id(&self) -> u64 {
        self.member_id
    }

    /// Remembers the default store's term.
    pub(crate) fn saw_term(&self, raft_term: u64) {
        self.raft_term.fetch_max(raft_term, Ordering::Relaxed);
    }

    /// The header of an answer at a unified revision.
    pub(crate) fn header(&self, revision: i64) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.raft_term.load(Ordering::Relaxed),
        }
    }
}

impl Identity {
    /// [`Identity::header`] for an answer that Keyloom makes itself.
    pub(crate) fn response_header(&self, revision: i64) -> ResponseHeader {
        let Header {
            cluster_id,
            member_id,
            revision,
            raft_term,
        } = self.header(revision);
        ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term,
        }
    }
}

/// A member id that belongs to the cluster, is stable over restarts and is no member of the store:
/// the finaliser of splitmix64.
fn member_of(cluster_id: u64) -> u64 {
    let mut id = cluster_id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (id ^ (id >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_a_header_is_zero_and_the_term_never_falls() {
        let identity = Identity::new(7, 0);
        let header = identity.header(5);
        assert_eq!(
            (header.cluster_id, header.revision, header.raft_term),
            (7, 5, 1)
        );
        assert_ne!(header.member_id, 0);
        identity.saw_term(9);
        identity.saw_term(3);
        assert_eq!(identity.header(5).raft_term, 9);
    }

    #[test]
    fn the_member_is_stable_and_differs_by_cluster() {
        assert_eq!(member_of(1), member_of(1));
        assert_ne!(member_of(1), member_of(2));
    }
}
