//! Asking a store where it stands, before anything is served.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange, Metadata, Rpc,
    etcdserverpb::{RangeRequest, RangeResponse},
    mvccpb::KeyValue,
};
use keyloom_ledger::StoreRev;
use keyloom_store::{Call, Lane, Store};
use prost::Message as _;
use tracing::{info, warn};

use crate::order::reserved_prefix;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a store said.
#[derive(Clone, Debug)]
pub(crate) struct AskedStore {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cluster_id: u64,
    pub(crate) raft_term: u64,
    pub(crate) revision: StoreRev,
    /// Whether it said anything; otherwise the numbers here mean nothing.
    pub(crate) answered: bool,
    /// The keys below Keyloom's prefix, a ledger if this is the default store of one.
    pub(crate) records: Vec<KeyValue>,
}

impl AskedStore {
    /// A store that does not answer.
    pub(crate) fn absent((name, store): &(String, Arc<dyn Store>)) -> Self {
        Self {
            name: name.clone(),
            store: Arc::clone(store),
            cluster_id: 0,
            raft_term: 0,
            revision: StoreRev::FIRST,
            answered: false,
            records: Vec::new(),
        }
    }
}

/// Asks until the store answers.
pub(crate) async fn until_answered((name, store): (String, Arc<dyn Store>)) -> AskedStore {
    let asked = until_ok(&name, || ask(&name, &store)).await;
    info!(
        store = name,
        revision = asked.revision.get(),
        cluster = format_args!("{:x}", asked.cluster_id),
        "store answered"
    );
    asked
}

/// Asks until the store says whether it can keep the ledger: if not, why.
pub(crate) async fn until_it_says_whether_it_refuses_the_ledger(
    asked: &(String, Arc<dyn Store>),
) -> Option<&'static str> {
    until_ok(&asked.0, || refuses_the_ledger(asked)).await
}

/// Asks once whether the store can keep the ledger: if not, why.
pub(crate) async fn refuses_the_ledger(
    (_, store): &(String, Arc<dyn Store>),
) -> Result<Option<&'static str>, String> {
    let said = store.refuses_the_ledger().await;
    said.map_err(|error| error.to_string())
}

/// Asks until there is an answer.
pub(crate) async fn until_ok<T, F: Future<Output = Result<T, String>>>(
    name: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let mut pause = FIRST_PAUSE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => warn!(store = name, error, "store does not answer; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks once.
pub(crate) async fn once((name, store): &(String, Arc<dyn Store>)) -> Result<AskedStore, String> {
    ask(name, store).await
}

async fn ask(name: &str, store: &Arc<dyn Store>) -> Result<AskedStore, String> {
    let range = KeyRange::prefix(reserved_prefix());
    let request = RangeRequest {
        range_end: range.range_end(),
        key: range.start,
        ..RangeRequest::default()
    };
    let call = Call {
        metadata: Metadata::default(),
        rpc: Rpc::Range,
        message: Bytes::from(request.encode_to_vec()),
        lane: Lane::Bulk,
        deadline: None,
        idempotent: true,
    };
    let answer = store.call(call).await.map_err(|error| error.to_string())?;
    let answer = RangeResponse::decode(answer).map_err(|error| error.to_string())?;
    let header = answer
        .header
        .filter(|header| header.revision > 0)
        .ok_or_else(|| "the answer has no revision".to_owned())?;
    Ok(AskedStore {
        name: name.to_owned(),
        store: Arc::clone(store),
        cluster_id: header.cluster_id,
        raft_term: header.raft_term,
        revision: StoreRev::new(header.revision),
        answered: true,
        records: answer.kvs,
    })
}
