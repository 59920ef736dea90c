//! Maintenance calls to the model: hashes of what it holds, and a defragmentation that moves
//! nothing.

use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{DefragmentResponse, HashKvRequest, HashKvResponse, HashResponse},
};
use prost::Message as _;

use crate::model::Etcd;

pub(super) fn defragment(etcd: &Etcd) -> DefragmentResponse {
    DefragmentResponse {
        header: Some(etcd.header()),
    }
}

/// Of everything, as it stands now.
pub(super) fn hash(etcd: &Etcd) -> HashResponse {
    HashResponse {
        header: Some(etcd.header()),
        hash: hash_at(etcd, etcd.revision()),
    }
}

/// As `HashByRev` in etcd's `server/storage/mvcc/kvstore.go`; 0 is the newest revision.
pub(super) fn hash_kv(etcd: &Etcd, request: &HashKvRequest) -> Result<HashKvResponse, EtcdError> {
    let revision = match request.revision {
        0 => etcd.revision(),
        revision => revision,
    };
    if revision > 0 && revision < etcd.compacted() {
        return Err(EtcdError::Compacted);
    }
    if revision > etcd.revision() {
        return Err(EtcdError::FutureRev);
    }
    Ok(HashKvResponse {
        header: Some(etcd.header()),
        hash: hash_at(etcd, revision),
        compact_revision: etcd.compacted(),
        hash_revision: revision,
    })
}

/// FNV-1a over the keys that there were at a revision. etcd's hash is of another kind; all that is
/// promised of either is that equal contents have equal hashes.
fn hash_at(etcd: &Etcd, revision: i64) -> u32 {
    let all = KeyRange::all();
    let keys = etcd.keyspace().range(&all, revision);
    keys.flat_map(|kv| kv.encode_length_delimited_to_vec())
        .fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
}
