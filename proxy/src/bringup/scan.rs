//! Which keys a store holds that a topology leads elsewhere.

use bytes::{BufMut, Bytes, BytesMut};
use keyloom_etcd_api::{
    KeyRange, Metadata, Rpc,
    etcdserverpb::{RangeRequest, RangeResponse},
};
use keyloom_ledger::StoreRev;
use keyloom_store::{Call, Lane, Store};
use prost::Message as _;
use tokio::time::{Duration, Instant};

/// Keys in one page.
const PAGE: i64 = 2000;

/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many found keys are told apart; what is above is one range.
const APART: usize = 1024;

/// Keys that were found, with an example.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScannedKeys {
    pub(crate) count: u64,
    pub(crate) example: Option<Bytes>,
    /// They lie in here.
    pub(crate) ranges: Vec<KeyRange>,
    /// The store's revision when they did.
    pub(crate) at: Option<StoreRev>,
}

impl ScannedKeys {
    fn add(&mut self, key: Bytes) {
        self.count += 1;
        if self.example.is_none() {
            self.example = Some(key.clone());
        }
        if self.ranges.len() < APART {
            self.ranges.push(KeyRange::key(key));
        } else if let Some(last) = self.ranges.last_mut() {
            last.end = KeyRange::key(key).end;
        }
    }
}

/// The keys of these ranges that `wanted` names, all at one revision of the store.
pub(crate) async fn scan(
    store: &dyn Store,
    ranges: &[KeyRange],
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<ScannedKeys, String> {
    let mut found = ScannedKeys::default();
    for range in ranges {
        // No key is empty, and a store takes an empty one for none.
        let mut from = match range.start.is_empty() {
            true => KeyRange::all().start,
            false => range.start.clone(),
        };
        loop {
            let rest = KeyRange {
                start: from,
                end: range.end.clone(),
            };
            if rest.is_empty() {
                break;
            }
            let page = page(store, &rest, found.at, PAGE).await?;
            let revision = page.header.map_or(0, |header| header.revision);
            if revision < 1 {
                return Err("its answer has no revision".to_owned());
            }
            found.at.get_or_insert(StoreRev::new(revision));
            let last = page.kvs.last().map(|kv| kv.key.clone());
            for kv in page.kvs {
                if wanted(&kv.key) {
                    found.add(kv.key);
                }
            }
            match last {
                Some(last) if page.more => from = behind(&last),
                _ => break,
            }
        }
    }
    Ok(found)
}

/// The revision at which a store stands. No more than one key of the range is read.
pub(super) async fn revision(store: &dyn Store, range: &KeyRange) -> Result<StoreRev, String> {
    let mut range = range.clone();
    if range.start.is_empty() {
        range.start = KeyRange::all().start;
    }
    let header = page(store, &range, None, 1).await?.header;
    let revision = header.map_or(0, |header| header.revision);
    if revision < 1 {
        return Err("its answer has no revision".to_owned());
    }
    Ok(StoreRev::new(revision))
}

/// Some keys from the start of a range on, and whether there are more.
pub(crate) async fn page(
    store: &dyn Store,
    range: &KeyRange,
    at: Option<StoreRev>,
    limit: i64,
) -> Result<RangeResponse, String> {
    let request = RangeRequest {
        key: range.start.clone(),
        range_end: range.range_end(),
        revision: at.map_or(0, StoreRev::get),
        limit,
        keys_only: true,
        ..RangeRequest::default()
    };
    let call = Call {
        metadata: Metadata::default(),
        rpc: Rpc::Range,
        message: Bytes::from(request.encode_to_vec()),
        lane: Lane::Bulk,
        deadline: Some((Instant::now() + PATIENCE).into_std()),
        idempotent: true,
    };
    let answer = store.call(call).await.map_err(|error| error.to_string())?;
    RangeResponse::decode(answer).map_err(|error| error.to_string())
}

/// The first key behind a key.
pub(crate) fn behind(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::etcdserverpb::PutRequest;
    use keyloom_testkit::{Step, model::ModelStore};

    use super::*;

    #[tokio::test]
    async fn every_page_is_read_and_many_keys_become_one_range() {
        let store = ModelStore::default();
        for number in 0..5000 {
            let put = PutRequest {
                key: format!("k{number:05}").into(),
                ..PutRequest::default()
            };
            store.with(|etcd| etcd.apply(&Step::Put(put))).unwrap();
        }
        let all = [KeyRange::prefix("k".into()), KeyRange::prefix("z".into())];
        let even = |key: &[u8]| key.last().is_some_and(|last| last % 2 == 0);
        let found = scan(&store, &all, even).await.unwrap();
        assert_eq!(found.count, 2500);
        assert_eq!(found.example, Some(Bytes::from("k00000")));
        assert_eq!(found.ranges.len(), APART);
        assert_eq!(found.at, Some(StoreRev::new(5001)));
        for key in ["k00000", "k02046", "k04998"] {
            assert!(
                found
                    .ranges
                    .iter()
                    .any(|range| range.contains(key.as_bytes()))
            );
        }
    }
}
