//! The same random program against one model etcd and through Keyloom over SQLite, alone and mixed
//! with other stores: every answer must be the same, revisions included.
//!
//! SQLite works on threads of its own, so time is not stopped here.

use std::{path::Path, sync::Arc};

use crate::support::{Keyloom, THREE, store};
use keyloom_etcd_api::Code;
use keyloom_sqlstore::{Metrics, SqliteOptions, SqliteStore, Synchronous, SystemClock};
use keyloom_store::Store;
use keyloom_testkit::{
    Step,
    model::ModelStore,
    program::{Generator, Group, Settings, Tolerance, same_answer},
};

const ONE: &str = "default: {endpoint: 'sqlite://ignored.db'}";

async fn sqlite(folder: &Path, name: &str) -> SqliteStore {
    let mut options = SqliteOptions::new(name, folder.join(name));
    // What is tested is not whether the disk keeps it.
    options.synchronous = Synchronous::Off;
    SqliteStore::open(options, Arc::new(SystemClock), &Metrics::default())
        .await
        .unwrap()
}

fn settings() -> Settings {
    let groups = vec![
        Group::new("/registry/pods/default/", &["a", "b", "c"]),
        Group::new("/registry/pods/tenant-a/", &["a", "b"]),
        Group::new("/registry/roles/default/", &["r", "s"]),
        Group::new("compact_rev_key", &[""]),
    ];
    Settings::new(groups)
}

/// Runs a program and opens the files anew in the middle of it.
async fn run(seed: u64, steps: usize, topology: &str, count: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let reference = ModelStore::default();
    let model = store(7);
    let mut generator = Generator::new(seed, settings());
    let mut compared = 0;
    for part in 0..2 {
        let files = [
            sqlite(folder.path(), "a").await,
            sqlite(folder.path(), "b").await,
        ];
        let all: [Arc<dyn Store>; 3] = [
            Arc::new(files[0].clone()),
            Arc::new(model.clone()),
            Arc::new(files[1].clone()),
        ];
        let keyloom = Keyloom::over(topology, all[..count].to_vec())
            .await
            .unwrap();
        for at in 0..steps {
            let step = generator.next_step();
            let got = keyloom.ask(&step).await;
            if count > 1 && is_documented(&step, &got) {
                continue;
            }
            let expected = reference.with(|etcd| etcd.apply(&step)).map_err(Into::into);
            generator.learn(&step, &expected);
            if let Err(difference) = same_answer(&expected, &got, Tolerance { cluster_id: true }) {
                panic!("seed {seed}, part {part}, step {at}: {step:?}\n{difference}");
            }
            compared += 1;
        }
        keyloom.stop().await;
        drop(all);
        for file in files {
            file.close().await;
        }
    }
    compared
}

fn is_documented(
    step: &Step,
    got: &Result<keyloom_testkit::Answer, keyloom_etcd_api::Status>,
) -> bool {
    let Err(status) = got else { return false };
    let spans = ["transaction spans stores", "refuses to delete over stores"];
    let refused = status.code() == Code::InvalidArgument
        && spans.iter().any(|text| status.message().contains(text));
    refused || (matches!(step, Step::Txn(_)) && status.code() == Code::OutOfRange)
}

#[tokio::test]
async fn sqlite_alone_answers_as_an_etcd() {
    for seed in 0..4 {
        assert_eq!(run(seed, 400, ONE, 1).await, 800);
    }
}

#[tokio::test]
async fn sqlite_mixed_with_another_store_answers_as_one_etcd() {
    for seed in 0..4 {
        assert!(run(seed, 400, THREE, 3).await > 400);
    }
}
