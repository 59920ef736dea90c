//! Calls of clients: whatever they send is answered or refused, and Keyloom serves on.

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{PutRequest, RangeRequest};
use keyloom_store::Store;
use keyloom_testkit::{Answer, Step};

use crate::{
    Entropy,
    keyloom::{a_call, ask, call, model, run, start},
};

pub fn target(data: &[u8]) {
    run(async {
        let mut entropy = Entropy(data);
        let stores = (1..=3).map(|id| Arc::new(model(id)) as Arc<dyn Store>);
        let keyloom = start(stores.collect()).await;
        for _ in 0..=entropy.below(6) {
            let (rpc, messages) = a_call(&mut entropy);
            for answer in call(&keyloom, rpc, messages).await {
                if let Err(status) = answer {
                    assert!(!status.message().is_empty(), "{rpc:?}: {status:?}");
                }
            }
        }
        // No call of a client breaks what other clients do.
        for key in ["a/still", "still", "still/b"] {
            let value = Bytes::from_static(b"here");
            let put = Step::Put(PutRequest {
                key: key.into(),
                value: value.clone(),
                ..PutRequest::default()
            });
            ask(&keyloom, &put).await.unwrap();
            let get = Step::Range(RangeRequest {
                key: key.into(),
                ..RangeRequest::default()
            });
            let Answer::Range(answer) = ask(&keyloom, &get).await.unwrap() else {
                panic!("a range was asked for");
            };
            assert_eq!(answer.kvs.len(), 1);
            assert_eq!(answer.kvs[0].value, value);
        }
        keyloom.alive().unwrap();
        keyloom.stop().await;
    });
}
