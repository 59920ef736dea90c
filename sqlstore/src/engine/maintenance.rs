//! The calls about the store itself: who it is, how large, whether it is well.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange, Rpc,
    etcdserverpb::{
        AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentResponse, HashKvRequest,
        HashKvResponse, HashResponse, Member, MemberListResponse, ResponseHeader, StatusResponse,
        alarm_request::AlarmAction,
    },
};
use keyloom_store::{CallError, Lane};

use super::{Engine, decode_call, unimplemented};
use crate::{
    error::Stop,
    session::{At, Marks, Row, Session, Values},
    shared::Shared,
    wire::encode,
    writer::Job,
};

/// The etcd whose behaviour this is: new enough for kube-apiserver to ask for progress.
const VERSION: &str = "3.6.16";
const STORAGE_VERSION: &str = "3.6.0";

impl<S: Session> Engine<S> {
    pub(super) async fn maintenance_call(
        &self,
        rpc: Rpc,
        message: Bytes,
    ) -> Result<Bytes, CallError> {
        match rpc {
            Rpc::Status => self.status().await,
            Rpc::MemberList => Ok(encode(&self.members())),
            Rpc::Alarm => self.alarm(&decode_call(message)?).await,
            Rpc::Defragment => self.defragment().await,
            Rpc::Hash => self.hash().await,
            Rpc::HashKV => self.hash_kv(decode_call(message)?).await,
            rpc => Err(CallError::Refused(unimplemented(rpc))),
        }
    }

    async fn status(&self) -> Result<Bytes, CallError> {
        let shared = self.shared.clone();
        let read = move |session: &mut S| {
            let (marks, space) = (session.marks()?, session.space()?);
            // There is no log of a consensus; its index must grow, and never be 0.
            let index = u64::try_from(marks.next_place.0).unwrap_or_default().max(1);
            Ok(encode(&StatusResponse {
                header: Some(shared.header(marks.revision)),
                version: VERSION.to_owned(),
                storage_version: STORAGE_VERSION.to_owned(),
                db_size: space.total,
                db_size_in_use: space.in_use,
                db_size_quota: space.quota,
                leader: shared.identity.member_id,
                raft_index: index,
                raft_applied_index: index,
                raft_term: shared.identity.raft_term,
                errors: errors(&shared),
                ..StatusResponse::default()
            }))
        };
        self.readers.run(Lane::Unary, read).await
    }

    /// The revision in this answer's header is 0, as in etcd.
    fn members(&self) -> MemberListResponse {
        let shared = &self.shared;
        MemberListResponse {
            header: Some(ResponseHeader {
                revision: 0,
                ..shared.header(0)
            }),
            members: vec![Member {
                id: shared.identity.member_id,
                name: shared.options.name.clone(),
                peer_ur_ls: Vec::new(),
                client_ur_ls: shared.options.client_urls.clone(),
                is_learner: false,
            }],
        }
    }

    async fn alarm(&self, request: &AlarmRequest) -> Result<Bytes, CallError> {
        let full = &self.shared.full;
        if request.action() == AlarmAction::Deactivate {
            full.store(false, Ordering::Relaxed);
        }
        let alarm = || AlarmMember {
            member_id: self.shared.identity.member_id,
            alarm: AlarmType::Nospace.into(),
        };
        let alarms = if full.load(Ordering::Relaxed) {
            vec![alarm()]
        } else {
            Vec::new()
        };
        let header = Some(self.header().await?);
        Ok(encode(&AlarmResponse { header, alarms }))
    }

    async fn header(&self) -> Result<ResponseHeader, CallError> {
        let shared = self.shared.clone();
        let read = move |session: &mut S| Ok(shared.header(session.marks()?.revision));
        self.readers.run(Lane::Unary, read).await
    }

    async fn defragment(&self) -> Result<Bytes, CallError> {
        self.ask_writer(Job::Defragment).await?;
        Ok(encode(&DefragmentResponse {
            header: Some(self.header().await?),
        }))
    }

    async fn hash(&self) -> Result<Bytes, CallError> {
        let shared = self.shared.clone();
        let read = move |session: &mut S| {
            let header = Some(shared.header(session.marks()?.revision));
            Ok(encode(&HashResponse {
                header,
                hash: hash_at(session, At::Now)?,
            }))
        };
        self.readers.run(Lane::Bulk, read).await
    }

    async fn hash_kv(&self, request: HashKvRequest) -> Result<Bytes, CallError> {
        let shared = self.shared.clone();
        let read = move |session: &mut S| {
            let marks = session.marks()?;
            let revision = if request.revision > 0 {
                request.revision
            } else {
                marks.revision
            };
            let at = hashed_at(session, revision, &marks)?;
            Ok(encode(&HashKvResponse {
                header: Some(shared.header(marks.revision)),
                hash: hash_at(session, at)?,
                compact_revision: marks.compacted,
                hash_revision: revision,
            }))
        };
        self.readers.run(Lane::Bulk, read).await
    }
}

fn errors(shared: &Shared) -> Vec<String> {
    let full = shared.full.load(Ordering::Relaxed);
    let text = || format!("memberID:{} alarm:NOSPACE ", shared.identity.member_id);
    if full { vec![text()] } else { Vec::new() }
}

fn hashed_at<S: Session>(session: &mut S, revision: i64, marks: &Marks) -> Result<At, Stop> {
    if revision > marks.revision {
        return Err(EtcdError::FutureRev.into());
    }
    if revision < marks.compacted {
        return Err(EtcdError::Compacted.into());
    }
    Ok(At::After(session.seq_at(revision, marks)?))
}

/// A hash of every living key at a moment: the same for the same keys, whatever was compacted
/// or defragmented since.
fn hash_at<S: Session>(session: &mut S, at: At) -> Result<u32, Stop> {
    let mut hash = Fnv::default();
    session.scan(&KeyRange::all(), at, Values::Read, &mut |row| {
        hash.row(row);
        true
    })?;
    Ok(hash.fold())
}

/// FNV-1a.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn row(&mut self, row: &Row<'_>) {
        let Row {
            key,
            mod_revision,
            create_revision,
            version,
            lease,
            value,
        } = *row;
        for bytes in [key, value] {
            self.bytes(&bytes.len().to_le_bytes());
            self.bytes(bytes);
        }
        for number in [mod_revision, create_revision, version, lease] {
            self.bytes(&number.to_le_bytes());
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn fold(self) -> u32 {
        ((self.0 >> 32) as u32) ^ (self.0 as u32)
    }
}
