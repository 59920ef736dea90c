//! A store's answers: whatever it answers, calls that need it fail or are what it said, and calls to
//! other stores know nothing of it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{PutRequest, RangeRequest},
};
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use keyloom_testkit::{Answer, Step, model::ModelStore};
use parking_lot::Mutex;

use crate::{
    Entropy, generate,
    keyloom::{a_call, call, model, run, start},
};

pub fn target(data: &[u8]) {
    run(async {
        let mut entropy = Entropy(data);
        let begins = entropy.below(3);
        let calls = entropy.below(5);
        let (of_calls, of_answers) = entropy.0.split_at(entropy.0.len() / 2);
        let bad = Arc::new(Liar::over(model(2)));
        let stores: Vec<Arc<dyn Store>> = vec![
            Arc::new(model(1)),
            Arc::clone(&bad) as Arc<dyn Store>,
            Arc::new(model(3)),
        ];
        let keyloom = start(stores).await;
        put(&keyloom, "a/before").await.unwrap();
        put(&keyloom, "before").await.unwrap();
        let mut of_calls = Entropy(of_calls);
        for at in 0..=calls {
            if at == begins {
                bad.lie(of_answers);
            }
            let (rpc, messages) = a_call(&mut of_calls);
            call(&keyloom, rpc, messages).await;
            // Whatever comes of it, it comes.
            get(&keyloom, "a/before").await.ok();
            put(&keyloom, "a/after").await.ok();
        }
        bad.lie(of_answers);
        get(&keyloom, "a/before").await.ok();
        keyloom.alive().unwrap();
        for key in ["other", "other/b"] {
            put(&keyloom, key).await.unwrap();
            let Answer::Range(answer) = get(&keyloom, key).await.unwrap() else {
                panic!("a range was asked for");
            };
            assert_eq!(answer.kvs.len(), 1);
            assert_eq!(answer.kvs[0].key, key.as_bytes());
        }
        keyloom.stop().await;
    });
}

async fn put(
    keyloom: &keyloom_proxy::Instance,
    key: &str,
) -> Result<Answer, keyloom_etcd_api::Status> {
    let put = Step::Put(PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from_static(b"value"),
        ..PutRequest::default()
    });
    ask_loosely(keyloom, &put).await
}

async fn get(
    keyloom: &keyloom_proxy::Instance,
    key: &str,
) -> Result<Answer, keyloom_etcd_api::Status> {
    let get = Step::Range(RangeRequest {
        key: Bytes::from(key.to_owned()),
        ..RangeRequest::default()
    });
    ask_loosely(keyloom, &get).await
}

/// What a bad store answers is handed on as bytes, and need not be a message.
async fn ask_loosely(
    keyloom: &keyloom_proxy::Instance,
    step: &Step,
) -> Result<Answer, keyloom_etcd_api::Status> {
    let answers = call(keyloom, step.rpc(), vec![step.encode()]).await;
    let answer = answers.into_iter().next().expect("a call has an answer")?;
    match Answer::decode(step.rpc(), answer) {
        Some(Ok(answer)) => Ok(answer),
        _ => Err(keyloom_etcd_api::Status::internal("no message")),
    }
}

/// A store whose answers are damaged, or others altogether.
#[derive(Debug)]
struct Liar {
    store: ModelStore,
    /// What the lies are made of; none as long as it says what is so.
    lies: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Liar {
    fn over(store: ModelStore) -> Self {
        Self {
            store,
            lies: Arc::default(),
        }
    }

    fn lie(&self, with: &[u8]) {
        self.lies.lock().get_or_insert_with(|| with.to_vec());
    }
}

/// The next answer, instead of the true one.
fn lie(lies: &Mutex<Option<Vec<u8>>>, rpc: Rpc, answer: Bytes) -> Bytes {
    let mut lies = lies.lock();
    let Some(with) = &mut *lies else {
        return answer;
    };
    let mut entropy = Entropy(with);
    let how = entropy.below(6);
    let made = match how {
        0 => answer,
        1 => {
            let length = entropy.below(80).min(entropy.0.len());
            let (own, rest) = entropy.0.split_at(length);
            entropy.0 = rest;
            Bytes::copy_from_slice(own)
        }
        2 | 3 => {
            let mut damaged = answer.to_vec();
            generate::damage(&mut damaged, &mut entropy);
            damaged.into()
        }
        _ => {
            let length = entropy.below(160).min(entropy.0.len());
            let (own, rest) = entropy.0.split_at(length);
            entropy.0 = rest;
            generate::message(response(rpc), &mut Entropy(own)).into()
        }
    };
    let left = entropy.0.to_vec();
    *with = left;
    made
}

fn response(rpc: Rpc) -> &'static str {
    match rpc {
        Rpc::Range => ".etcdserverpb.RangeResponse",
        Rpc::Put => ".etcdserverpb.PutResponse",
        Rpc::DeleteRange => ".etcdserverpb.DeleteRangeResponse",
        Rpc::Txn => ".etcdserverpb.TxnResponse",
        Rpc::Watch => ".etcdserverpb.WatchResponse",
        Rpc::Compact => ".etcdserverpb.CompactionResponse",
        Rpc::LeaseGrant => ".etcdserverpb.LeaseGrantResponse",
        Rpc::LeaseRevoke => ".etcdserverpb.LeaseRevokeResponse",
        Rpc::LeaseKeepAlive => ".etcdserverpb.LeaseKeepAliveResponse",
        Rpc::LeaseTimeToLive => ".etcdserverpb.LeaseTimeToLiveResponse",
        Rpc::LeaseLeases => ".etcdserverpb.LeaseLeasesResponse",
        Rpc::Status => ".etcdserverpb.StatusResponse",
        Rpc::HashKV => ".etcdserverpb.HashKVResponse",
        Rpc::Alarm => ".etcdserverpb.AlarmResponse",
        _ => ".etcdserverpb.RangeResponse",
    }
}

impl Store for Liar {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let rpc = call.rpc;
        let lies = Arc::clone(&self.lies);
        let answer = self.store.call(call);
        async move { answer.await.map(|answer| lie(&lies, rpc, answer)) }.boxed()
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        let lies = Arc::clone(&self.lies);
        let opened = self.store.stream(rpc, requests);
        async move {
            let answers = opened.await?;
            let answers = answers.map(move |answer| answer.map(|answer| lie(&lies, rpc, answer)));
            Ok(answers.boxed())
        }
        .boxed()
    }
}
