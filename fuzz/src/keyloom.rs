//! A whole Keyloom over model stores, with stopped time, and calls out of random bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use keyloom_environment::SeededRandom;
use keyloom_etcd_api::{Rpc, Shape, Status};
use keyloom_proxy::{Instance, OpenStores, Options, RenewOn, TopologyMetrics, WatchOptions};
use keyloom_store::Store;
use keyloom_testkit::{
    Answer, Step,
    model::{Identity, ModelStore, Profile},
};
use keyloom_topology::{ParseOptions, StoreSpec, parse};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Entropy, generate, panics};

const TOPOLOGY: &str = "
default: {endpoint: 'http://default.invalid:2379'}
backends:
- name: a
  endpoint: http://a.invalid:2379
  prefix: {key: a}
- name: b
  endpoint: http://b.invalid:2379
  regexp: {key: 'b$'}
";

/// Longer than any limit of Keyloom's own.
const PATIENCE: Duration = Duration::from_secs(600);

/// Longer than one input takes, whatever is waited for.
const LONGEST: Duration = Duration::from_secs(86_400);

struct Nowhere;

impl OpenStores for Nowhere {
    fn open<'a>(&'a self, _: &'a StoreSpec) -> BoxFuture<'a, Result<Arc<dyn Store>, String>> {
        async { Err("there are no other stores".to_owned()) }.boxed()
    }

    fn keep<'a>(&'a self, _: &'a [Arc<dyn Store>]) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }
}

impl std::fmt::Debug for Nowhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nowhere")
    }
}

/// Runs one input, and stops where anything panicked.
pub(crate) fn run(body: impl Future<Output = ()>) {
    let before = panics::count();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // In stopped time: whatever waits for ever is found at once.
        let ended = timeout(LONGEST, body).await;
        assert!(ended.is_ok(), "it does not end");
    });
    drop(runtime);
    assert_eq!(panics::count(), before, "a task panicked");
}

pub(crate) fn model(cluster_id: u64) -> ModelStore {
    ModelStore::new(Profile {
        identity: Identity {
            cluster_id,
            ..Identity::default()
        },
        ..Profile::default()
    })
}

pub(crate) async fn start(stores: Vec<Arc<dyn Store>>) -> Instance {
    let topology = match parse(TOPOLOGY, &ParseOptions::default()) {
        Ok(accepted) => accepted.topology,
        Err(refused) => panic!("{}", refused.in_file("fuzz").join("\n")),
    };
    let options = Options {
        random: Arc::new(SeededRandom::new(7)),
        leadership_duration: Duration::from_secs(5),
        renew_on: RenewOn::ThisRuntime,
        watch: WatchOptions::default(),
        open: Arc::new(Nowhere),
        metrics: TopologyMetrics::register(&mut Registry::default()),
    };
    let started = Instance::start(topology, stores, options, CancellationToken::new());
    started.await.expect("Keyloom starts over good stores")
}

/// Makes a call, and gives back the answers; each comes in time.
pub(crate) async fn call(
    keyloom: &Instance,
    rpc: Rpc,
    messages: Vec<Bytes>,
) -> Vec<Result<Bytes, Status>> {
    match rpc.shape() {
        Shape::Unary => {
            let message = messages.into_iter().next().unwrap_or_default();
            let deadline = Some(Instant::now() + Duration::from_secs(10));
            let answer = timeout(PATIENCE, keyloom.unary(rpc, message, deadline)).await;
            vec![answer.unwrap_or_else(|_| panic!("{rpc:?} is not answered"))]
        }
        Shape::ServerStream | Shape::BidirectionalStream => {
            let requests = stream::iter(messages).boxed();
            let opened = timeout(PATIENCE, keyloom.stream(rpc, requests)).await;
            let opened = opened.unwrap_or_else(|_| panic!("{rpc:?} is not opened"));
            let mut answers = match opened {
                Ok(answers) => answers,
                Err(status) => return vec![Err(status)],
            };
            let mut all = Vec::new();
            // A watch goes on as long as its client does.
            while let Ok(Some(answer)) = timeout(Duration::from_secs(1), answers.next()).await {
                all.push(answer);
                if all.len() > 64 {
                    break;
                }
            }
            all
        }
    }
}

/// What a call's requests are called; none where it has no fields to fill.
fn request(rpc: Rpc) -> &'static str {
    match rpc {
        Rpc::Range | Rpc::RangeStream => ".etcdserverpb.RangeRequest",
        Rpc::Put => ".etcdserverpb.PutRequest",
        Rpc::DeleteRange => ".etcdserverpb.DeleteRangeRequest",
        Rpc::Compact => ".etcdserverpb.CompactionRequest",
        Rpc::Watch => ".etcdserverpb.WatchRequest",
        Rpc::LeaseGrant => ".etcdserverpb.LeaseGrantRequest",
        Rpc::LeaseRevoke => ".etcdserverpb.LeaseRevokeRequest",
        Rpc::LeaseKeepAlive => ".etcdserverpb.LeaseKeepAliveRequest",
        Rpc::LeaseTimeToLive => ".etcdserverpb.LeaseTimeToLiveRequest",
        Rpc::Alarm => ".etcdserverpb.AlarmRequest",
        Rpc::HashKV => ".etcdserverpb.HashKVRequest",
        Rpc::Downgrade => ".etcdserverpb.DowngradeRequest",
        Rpc::Authenticate => ".etcdserverpb.AuthenticateRequest",
        Rpc::AuthUserAdd => ".etcdserverpb.AuthUserAddRequest",
        Rpc::MemberAdd => ".etcdserverpb.MemberAddRequest",
        // The richest of all.
        _ => ".etcdserverpb.TxnRequest",
    }
}

/// A call and its messages: made from the bytes, damaged, or the bytes themselves.
pub(crate) fn a_call(entropy: &mut Entropy<'_>) -> (Rpc, Vec<Bytes>) {
    // The calls with the most to them come twice as often.
    let rpc = match entropy.below(2) {
        0 => Rpc::ALL[entropy.below(12)],
        _ => Rpc::ALL[entropy.below(Rpc::ALL.len())],
    };
    let count = match rpc.shape() {
        Shape::Unary | Shape::ServerStream => 1,
        Shape::BidirectionalStream => 1 + entropy.below(4),
    };
    let messages = (0..count).map(|_| message(rpc, entropy)).collect();
    (rpc, messages)
}

fn message(rpc: Rpc, entropy: &mut Entropy<'_>) -> Bytes {
    let how = entropy.below(6);
    let length = entropy.below(120).min(entropy.0.len());
    let (own, rest) = entropy.0.split_at(length);
    entropy.0 = rest;
    if how == 0 {
        return Bytes::copy_from_slice(own);
    }
    let mut message = generate::message(request(rpc), &mut Entropy(own));
    if how == 1 {
        generate::damage(&mut message, entropy);
    }
    message.into()
}

pub(crate) async fn ask(keyloom: &Instance, step: &Step) -> Result<Answer, Status> {
    let rpc = step.rpc();
    let mut answers = call(keyloom, rpc, vec![step.encode()]).await;
    let answer = answers.pop().expect("a call has an answer")?;
    Ok(Answer::decode(rpc, answer).unwrap().unwrap())
}
