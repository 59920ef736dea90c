//! The member list: one member, Keyloom, so that clients that ask for addresses come back here.

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{Member, MemberListResponse};
use prost::Message as _;

use super::Services;
use crate::{failure::Failure, order::Order};

impl Services {
    pub(super) async fn member_list(&self) -> Result<Bytes, Failure> {
        let member = Member {
            id: self.identity.member_id(),
            name: "keyloom".to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: self.client_urls.get().cloned().unwrap_or_default(),
            is_learner: false,
        };
        let revision = match &self.snapshot.load().order {
            // etcd's own member list has no revision either.
            Order::Native => 0,
            Order::Merged(order) => order.head().get(),
        };
        let header = Some(self.identity.response_header(revision));
        Ok(MemberListResponse {
            header,
            members: vec![member],
        }
        .encode_to_vec()
        .into())
    }
}
