//! A new database from the contents of another store.

use std::fs;

use keyloom_environment::SeededRandom;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, RangeRequest, RangeResponse},
    mvccpb::KeyValue,
};
use keyloom_sqlstore::{
    ImportError, Imported, ImportedLease, Importer, OpenError, Snapshot, SqliteStore,
};
use keyloom_store::CallError;

use crate::support::{Place, all, call, list, put};

fn kv(key: &'static [u8], create: i64, modified: i64, version: i64, lease: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: create,
        mod_revision: modified,
        version,
        value: vec![0xff; usize::try_from(modified).unwrap()].into(),
        lease,
    }
}

/// In the order of keys, as they are read.
fn contents() -> Vec<KeyValue> {
    vec![
        kv(b"\0", 9, 12, 3, 0),
        kv(b"/registry/pods/a", 3, 40, 7, 5),
        kv(b"/registry/pods/b", 4, 4, 1, 0),
        kv(b"z\xff", 12, 12, 1, 77),
    ]
}

fn begin(place: &Place) -> Result<Importer, ImportError> {
    Importer::begin(&place.options, &SeededRandom::new(3))
}

/// The names of the files beside the database.
fn files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.folder()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn keys_keep_their_revisions_versions_and_leases() {
    let place = Place::new();
    let mut importer = begin(&place).unwrap();
    let (first, second) = (&contents()[..3], &contents()[3..]);
    importer.add(first).unwrap();
    importer.add(second).unwrap();
    let lease = ImportedLease {
        id: 5,
        ttl: 60,
        remaining: 20,
    };
    let snapshot = Snapshot {
        revision: 50,
        leases: vec![lease],
    };
    let imported = importer.finish(&snapshot, &place.clock).unwrap();
    let expected = Imported {
        keys: 4,
        leases: 1,
        revision: 51,
    };
    assert_eq!(imported, expected);
    assert_eq!(files(&place), ["state.db", "state.db.lock"]);

    let store = place.open().await;
    assert_eq!(list(&store, all()).await.kvs, contents());
    // What revision 50 did is not known: nothing may be read or watched there.
    for revision in [1, 12, 50] {
        let old = RangeRequest { revision, ..all() };
        let Err(CallError::Refused(status)) = call::<RangeResponse>(&store, Rpc::Range, &old).await
        else {
            panic!()
        };
        assert_eq!(EtcdError::of(&status), Some(EtcdError::Compacted));
    }
    let at = RangeRequest {
        revision: 51,
        ..all()
    };
    assert_eq!(list(&store, at.clone()).await.kvs, contents());
    let request = LeaseTimeToLiveRequest { id: 5, keys: true };
    let left: LeaseTimeToLiveResponse = call(&store, Rpc::LeaseTimeToLive, &request).await.unwrap();
    assert_eq!((left.ttl, left.granted_ttl, left.keys.len()), (20, 60, 1));
    assert_eq!(put(&store, "/registry/pods/b", "x").await.unwrap(), 52);
    let changed = list(&store, all()).await.kvs[2].clone();
    assert_eq!((changed.version, changed.create_revision), (2, 4));
    // And still as it was, by the history.
    assert_eq!(list(&store, at).await.kvs, contents());
    store.close().await;
}

/// A lease that was gone when the leases were read takes its keys with it.
#[tokio::test]
async fn a_lease_that_ended_meanwhile_ends_at_once() {
    let place = Place::new();
    let mut importer = begin(&place).unwrap();
    importer.add(&contents()).unwrap();
    let snapshot = Snapshot {
        revision: 40,
        leases: Vec::new(),
    };
    importer.finish(&snapshot, &place.clock).unwrap();
    let store = place.open().await;
    let left = loop {
        let left = list(&store, all()).await;
        if left.count <= 2 {
            break left;
        }
        tokio::task::yield_now().await;
    };
    let revision = left.header.unwrap().revision;
    assert_eq!(revision, 43, "one revision for each lease");
    store.close().await;
}

#[tokio::test]
async fn an_empty_store_is_imported_too() {
    let place = Place::new();
    let snapshot = Snapshot {
        revision: 1,
        leases: Vec::new(),
    };
    begin(&place)
        .unwrap()
        .finish(&snapshot, &place.clock)
        .unwrap();
    let store = place.open().await;
    assert_eq!(list(&store, all()).await.count, 0);
    assert_eq!(put(&store, "a", "").await.unwrap(), 3);
    store.close().await;
}

#[tokio::test]
async fn what_is_there_is_never_replaced() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, "a", "1").await.unwrap();
    let error = begin(&place).unwrap_err();
    assert!(matches!(error, ImportError::NotEmpty { .. }), "{error}");
    assert!(error.to_string().contains("state.db already"), "{error}");
    store.close().await;
    assert!(matches!(begin(&place), Err(ImportError::NotEmpty { .. })));
    let store = place.open().await;
    assert_eq!(list(&store, all()).await.count, 1);
    store.close().await;
}

#[tokio::test]
async fn a_file_is_made_by_one_at_a_time() {
    let place = Place::new();
    let importer = begin(&place).unwrap();
    let again = begin(&place).unwrap_err();
    assert!(
        matches!(again, ImportError::Open(OpenError::InUse { .. })),
        "{again}"
    );
    drop(importer);
    assert_eq!(files(&place), ["state.db.lock"]);
}

/// A killed import leaves its file, which nobody must take for a store.
#[tokio::test]
async fn half_of_an_import_is_refused_by_name() {
    let place = Place::new();
    let mut importer = begin(&place).unwrap();
    importer.add(&contents()[..2]).unwrap();
    let half = place.folder().join("state.db.import");
    let renamed = Place::new();
    fs::copy(half, renamed.path()).unwrap();
    let clock = std::sync::Arc::new(renamed.clock.clone());
    let metrics = keyloom_sqlstore::Metrics::default();
    let opened = SqliteStore::open(renamed.options.clone(), clock, &metrics).await;
    let error = opened.expect_err("a refusal");
    assert!(matches!(error, OpenError::Unfinished { .. }), "{error:?}");
    assert!(error.to_string().contains("run the import again"));
    // The same file, finished, is a store.
    importer.add(&contents()[2..]).unwrap();
    let snapshot = Snapshot {
        revision: 50,
        leases: Vec::new(),
    };
    importer.finish(&snapshot, &place.clock).unwrap();
    place.open().await.close().await;
}

#[tokio::test]
async fn what_makes_no_sense_leaves_nothing() {
    for wrong in [
        kv(b"", 1, 1, 1, 0),
        kv(b"a", 1, 1, 0, 0),
        kv(b"a", 0, 1, 1, 0),
        kv(b"a", 3, 2, 1, 0),
    ] {
        let place = Place::new();
        let mut importer = begin(&place).unwrap();
        importer.add(&contents()).unwrap();
        let error = importer.add(&[wrong]).unwrap_err();
        assert!(matches!(error, ImportError::Key { .. }), "{error}");
        drop(importer);
        assert_eq!(files(&place), ["state.db.lock"]);
    }
    // A key from above the snapshot, and one that is there twice.
    for (revision, keys) in [(39, contents()), (50, [contents(), contents()].concat())] {
        let place = Place::new();
        let mut importer = begin(&place).unwrap();
        importer.add(&keys).unwrap();
        let snapshot = Snapshot {
            revision,
            leases: Vec::new(),
        };
        importer.finish(&snapshot, &place.clock).unwrap_err();
        assert_eq!(files(&place), ["state.db.lock"]);
    }
}
