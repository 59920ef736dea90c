//! A Keyloom whose store is another Keyloom over several: every answer is that of one etcd,
//! revisions included.

use std::sync::Arc;

use crate::support::{Keyloom, THREE, store};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use keyloom_etcd_api::{Code, Rpc};
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use keyloom_testkit::{
    model::ModelStore,
    program::{Generator, Group, Settings, Tolerance, same_answer},
};

/// The tenant's: pods on one store, everything else on another.
const INNER: &str = "
default: {endpoint: 'http://inner.invalid:2379'}
backends:
- {name: pods, endpoint: 'http://pods.invalid:2379', prefix: {prefix: pods}}
";

/// A Keyloom as a store.
#[derive(Clone)]
struct Behind(Arc<Keyloom>);

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Behind")
    }
}

impl Store for Behind {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let inner = Arc::clone(&self.0);
        async move {
            let answer = inner.unary(call.rpc, call.message).await;
            answer.map_err(CallError::Refused)
        }
        .boxed()
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        let inner = Arc::clone(&self.0);
        async move {
            let answers = inner.all(rpc, requests).await.map_err(CallError::Refused)?;
            let answers = answers.map(|answer| answer.map_err(CallError::Refused));
            Ok(answers.boxed())
        }
        .boxed()
    }
}

fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["a", "b"]),
        Group::new("/registry/pods/tenant-a/", &["a", "b"]),
        Group::new("/registry/secrets/tenant-a/", &["a", "b"]),
        Group::new("/registry/roles/default/", &["r"]),
    ]
}

async fn run(seed: u64, steps: usize) -> usize {
    let reference = ModelStore::default();
    let inner = Keyloom::start(INNER, &[store(3), store(4)]).await;
    let stores: [Arc<dyn Store>; 3] = [
        Arc::new(store(1)),
        Arc::new(store(2)),
        Arc::new(Behind(Arc::new(inner))),
    ];
    let mut outer = Keyloom::over(THREE, stores.to_vec()).await.unwrap();
    let mut generator = Generator::new(seed, Settings::new(groups()));
    let mut compared = 0;
    for at in 0..steps {
        if at % 97 == 96 {
            outer.stop().await;
            outer = Keyloom::over(THREE, stores.to_vec()).await.unwrap();
        }
        let step = generator.next_step();
        let got = outer.ask(&step).await;
        // What only one etcd can do, here or behind.
        if let Err(status) = &got
            && status.code() == Code::InvalidArgument
            && status.message().contains("stores")
        {
            continue;
        }
        let expected = reference.with(|etcd| etcd.apply(&step)).map_err(Into::into);
        generator.learn(&step, &expected);
        let tolerance = Tolerance { cluster_id: true };
        if let Err(difference) = same_answer(&expected, &got, tolerance) {
            panic!("seed {seed}, step {at}: {step:?}\n{difference}");
        }
        compared += 1;
    }
    compared
}

#[tokio::test(start_paused = true)]
async fn a_keyloom_behind_a_keyloom_changes_no_answer() {
    for seed in 0..12 {
        assert!(run(seed, 200).await > 90);
    }
}
