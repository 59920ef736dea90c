//! How long it takes to open a database with many keys, and to make one by an import.
//!
//! `cargo run --release -p keyloom-sqlstore --example open -- 1000000 /var/tmp`: so many keys with
//! values of 512 bytes, in a folder of its own below that one. The system's cache is warm; the
//! first opening comes right after the file was made.

#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{error::Error, sync::Arc};

use keyloom_environment::OsRandom;
use keyloom_etcd_api::mvccpb::KeyValue;
use keyloom_sqlstore::{Importer, Metrics, Snapshot, SqliteOptions, SqliteStore, SystemClock};
use tokio::time::Instant;

/// How many keys are handed over at once.
const PAGE: i64 = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let keys: i64 = arguments.next().as_deref().unwrap_or("1000000").parse()?;
    let below = arguments.next().unwrap_or_else(|| ".".to_owned());
    let folder = tempfile::tempdir_in(below)?;
    let options = SqliteOptions::new("open", folder.path().join("open.db"));
    let began = Instant::now();
    let mut importer = Importer::begin(&options, &OsRandom)?;
    let mut page = Vec::new();
    for number in 0..keys {
        page.push(key(number));
        if number % PAGE == PAGE - 1 || number == keys - 1 {
            importer.add(&page)?;
            page.clear();
        }
    }
    let snapshot = Snapshot {
        revision: keys + 1,
        leases: Vec::new(),
    };
    importer.finish(&snapshot, &SystemClock)?;
    println!("import of {keys} keys: {:?}", began.elapsed());
    let size = std::fs::metadata(&options.path)?.len();
    println!("size: {} MiB", size >> 20);
    for _ in 0..3 {
        let began = Instant::now();
        let (clock, metrics) = (Arc::new(SystemClock), Metrics::default());
        let store = SqliteStore::open(options.clone(), clock, &metrics).await?;
        println!(
            "opened in {:?}: {} classes",
            began.elapsed(),
            store.usage().len()
        );
        store.close().await;
    }
    Ok(())
}

/// The order of the keys is not that of the revisions.
fn key(number: i64) -> KeyValue {
    let revision = 2 + number.wrapping_mul(7_919) % 1_000;
    KeyValue {
        key: format!(
            "/registry/pods/namespace-{:03}/pod-{number:09}",
            number / 10_000
        )
        .into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        value: vec![b'v'; 512].into(),
        lease: 0,
    }
}
