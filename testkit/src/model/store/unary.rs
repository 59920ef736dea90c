//! Unary calls to the model.

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, Rpc, Status,
    etcdserverpb::{
        HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, Member,
        MemberListResponse, StatusResponse,
    },
};
use prost::{DecodeError, Message};

use super::{ModelStore, Profile, maintenance};
use crate::{Answer, Step, model::Etcd};

/// etcd's `--max-request-bytes`, for requests that write.
const MAX_REQUEST_BYTES: usize = 1_572_864;

impl ModelStore {
    pub(super) fn dispatch(&self, rpc: Rpc, message: Bytes) -> Result<Bytes, Status> {
        if let Some(step) = Step::decode(rpc, message.clone()) {
            return self.step(&step.map_err(malformed)?, message.len());
        }
        match rpc {
            Rpc::Status => Ok(self.with(|etcd| encode(&status(&self.profile, etcd)))),
            Rpc::MemberList => Ok(self.with(|etcd| encode(&members(&self.profile, etcd)))),
            Rpc::LeaseGrant => {
                let request = decode::<LeaseGrantRequest>(message)?;
                Ok(encode(&self.with(|etcd| etcd.lease_grant(&request))?))
            }
            Rpc::LeaseRevoke => {
                let request = decode::<LeaseRevokeRequest>(message)?;
                Ok(encode(&self.with(|etcd| etcd.lease_revoke(&request))?))
            }
            Rpc::LeaseTimeToLive => {
                let request = decode::<LeaseTimeToLiveRequest>(message)?;
                Ok(encode(&self.with(|etcd| etcd.lease_time_to_live(&request))))
            }
            Rpc::LeaseLeases => Ok(encode(&self.with(|etcd| etcd.lease_leases()))),
            Rpc::Defragment => Ok(self.with(|etcd| encode(&maintenance::defragment(etcd)))),
            Rpc::Hash => Ok(self.with(|etcd| encode(&maintenance::hash(etcd)))),
            Rpc::HashKV => {
                let request = decode::<HashKvRequest>(message)?;
                let hash = self.with(|etcd| maintenance::hash_kv(etcd, &request))?;
                Ok(encode(&hash))
            }
            _ => Err(not_modelled(rpc)),
        }
    }

    fn step(&self, step: &Step, length: usize) -> Result<Bytes, Status> {
        if length > MAX_REQUEST_BYTES && !step.only_reads() {
            return Err(EtcdError::RequestTooLarge.into());
        }
        let answer = self.with(|etcd| etcd.apply(step))?;
        Ok(Answer::encode(&answer))
    }
}

fn status(profile: &Profile, etcd: &Etcd) -> StatusResponse {
    let revision = etcd.revision();
    let applied = u64::try_from(revision).unwrap_or(0) + 3;
    StatusResponse {
        header: Some(etcd.header()),
        version: profile.version.clone(),
        db_size: 20_480 + 512 * revision,
        db_size_in_use: 16_384 + 512 * revision,
        leader: profile.identity.member_id,
        raft_index: applied,
        raft_applied_index: applied,
        raft_term: profile.identity.raft_term,
        ..StatusResponse::default()
    }
}

/// The revision in this answer's header is 0, as in etcd.
fn members(profile: &Profile, etcd: &Etcd) -> MemberListResponse {
    let mut header = etcd.header();
    header.revision = 0;
    MemberListResponse {
        header: Some(header),
        members: vec![Member {
            id: profile.identity.member_id,
            name: profile.name.clone(),
            peer_ur_ls: vec!["http://model.invalid:2380".to_owned()],
            client_ur_ls: vec![profile.client_url.clone()],
            is_learner: false,
        }],
    }
}

pub(super) fn not_modelled(rpc: Rpc) -> Status {
    Status::unimplemented(format!("the model has no {}", rpc.name()))
}

pub(super) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(super) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(malformed)
}

/// As grpc-go puts it.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: DecodeError) -> Status {
    Status::internal(format!("grpc: error unmarshalling request: {error}"))
}
