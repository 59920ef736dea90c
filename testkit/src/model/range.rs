//! Range: which keys an answer holds, in which order.

use std::cmp::Ordering;

use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        RangeRequest, RangeResponse, ResponseHeader,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::KeyValue,
};

use super::Keyspace;

/// The revision to read at for a request that sees `seen` as the newest.
pub(super) fn read_at(revision: i64, seen: i64, compacted: i64) -> Result<i64, EtcdError> {
    if revision > seen {
        return Err(EtcdError::FutureRev);
    }
    let at = if revision <= 0 { seen } else { revision };
    if at < compacted {
        return Err(EtcdError::Compacted);
    }
    Ok(at)
}

/// Answers a request that passed its checks; `seen` is the newest revision that it may see. The
/// header holds only the revision.
pub(super) fn range(
    keyspace: &Keyspace,
    request: &RangeRequest,
    seen: i64,
    compacted: i64,
) -> Result<RangeResponse, EtcdError> {
    let at = read_at(request.revision, seen, compacted)?;
    let keys = KeyRange::from_request(&request.key, &request.range_end);
    let count = keyspace.range(&keys, at).count();
    let (kvs, more) = if request.count_only {
        (Vec::new(), false)
    } else {
        select(request, keyspace.range(&keys, at))
    };
    Ok(RangeResponse {
        header: Some(ResponseHeader {
            revision: seen,
            ..ResponseHeader::default()
        }),
        kvs,
        more,
        count: i64::try_from(count).unwrap_or(i64::MAX),
    })
}

fn select<'a>(
    request: &RangeRequest,
    keys: impl Iterator<Item = &'a KeyValue>,
) -> (Vec<KeyValue>, bool) {
    let limit = usize::try_from(request.limit)
        .ok()
        .filter(|&limit| limit > 0);
    // With an order or a filter etcd looks at every key, otherwise only at one more than asked.
    let looked_at = match limit {
        Some(limit) if !looks_at_all(request) => limit.saturating_add(1),
        _ => usize::MAX,
    };
    let mut kvs: Vec<KeyValue> = keys
        .take(looked_at)
        .filter(|kv| passes(request, kv))
        .cloned()
        .collect();
    sort(request, &mut kvs);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    kvs.truncate(limit.unwrap_or(usize::MAX));
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    (kvs, more)
}

fn looks_at_all(request: &RangeRequest) -> bool {
    request.sort_order() != SortOrder::None
        || request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        kv.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        kv.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// The order of equal elements is that of keys in both directions, as etcd's is for up to 12
/// elements; above that etcd leaves it open.
fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let target = request.sort_target();
    let by = |a: &KeyValue, b: &KeyValue| compare(target, a, b);
    match request.sort_order() {
        // In the order of keys already, which another target than the key does not leave so.
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
    }
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
