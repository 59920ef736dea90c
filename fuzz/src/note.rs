//! The note beside a SQLite file says what was given out. Whatever stands in it, the store is opened
//! or refused; where it is opened, it stands no lower than before.

use std::sync::Arc;

use keyloom_sqlstore::{Metrics, SqliteOptions, SqliteStore, SystemClock};
use prometheus_client::registry::Registry;

/// Longer notes say nothing new.
const LENGTH: usize = 4096;

pub fn target(data: &[u8]) {
    let data = &data[..data.len().min(LENGTH)];
    let before = crate::panics::count();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let open = || {
            let options = SqliteOptions::new("fuzz", &path);
            let metrics = Metrics::register(&mut Registry::default());
            async move { SqliteStore::open(options, Arc::new(SystemClock), &metrics).await }
        };
        let store = open().await.unwrap();
        let revision = store.revision();
        store.close().await;
        let note = folder.path().join("state.db.given-out");
        std::fs::write(&note, data).unwrap();
        match open().await {
            Ok(store) => {
                assert!(store.revision() >= revision);
                store.close().await;
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
    drop(runtime);
    assert_eq!(crate::panics::count(), before, "a task panicked");
}
