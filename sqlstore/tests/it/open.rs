//! Opening: one owner, versions, foreign files, backups.

use std::{fs, sync::Arc};

use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{
        MemberListRequest, MemberListResponse, RangeRequest, RangeResponse, StatusRequest,
        StatusResponse,
    },
};
use keyloom_sqlstore::{FaultKind, Metrics, OpenError, Restored, SqliteOptions, SqliteStore};
use keyloom_store::CallError;

use crate::support::{Place, all, call, list, put};

async fn refusal(place: &Place) -> OpenError {
    refusal_of(place, place.options.clone()).await
}

async fn refusal_of(place: &Place, options: SqliteOptions) -> OpenError {
    let clock = Arc::new(place.clock.clone());
    let opened = SqliteStore::open(options, clock, &Metrics::default()).await;
    let error = opened.expect_err("a refusal");
    let text = error.to_string();
    assert!(text.contains("store test ("), "{text}");
    assert!(text.contains("state.db"), "{text}");
    error
}

#[tokio::test]
async fn a_file_has_one_owner_at_a_time() {
    let place = Place::new();
    let store = place.open().await;
    let error = refusal(&place).await;
    let OpenError::InUse { owner, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        *owner,
        format!("process {} (store test)", std::process::id())
    );
    put(&store, "a", "1").await.unwrap();
    store.close().await;
    assert!(
        !place.folder().join("state.db-wal").exists(),
        "everything is in the file"
    );
    let store = place.open().await;
    assert_eq!(store.revision(), 2);
    store.close().await;
}

#[tokio::test]
async fn after_it_is_closed_a_store_says_so() {
    let place = Place::new();
    let store = place.open().await;
    store.clone().close().await;
    let Err(CallError::Refused(status)) = put(&store, "a", "1").await else {
        panic!()
    };
    assert_eq!(EtcdError::of(&status), Some(EtcdError::Stopped));
}

#[tokio::test]
async fn who_the_store_is_stays() {
    let place = Place::new();
    let store = place.open().await;
    let identity = store.identity();
    let status: StatusResponse = call(&store, Rpc::Status, &StatusRequest {}).await.unwrap();
    assert_eq!(status.version, "3.6.16");
    assert_eq!(status.leader, identity.member_id);
    assert!(
        status.raft_index > 0 && status.raft_term > 0 && status.db_size >= status.db_size_in_use
    );
    assert!(identity.cluster_id != 0 && identity.member_id != 0);
    let members: MemberListResponse = call(&store, Rpc::MemberList, &MemberListRequest::default())
        .await
        .unwrap();
    assert_eq!(members.members[0].id, identity.member_id);
    assert_eq!(
        list(&store, all()).await.header.unwrap().cluster_id,
        identity.cluster_id
    );
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.identity(), identity);
    store.close().await;
    let other = Place::new();
    let store = other.open().await;
    assert_ne!(store.identity().cluster_id, identity.cluster_id);
    store.close().await;
}

/// Before version 2 no counts were kept.
#[tokio::test]
async fn an_older_schema_is_migrated() {
    let place = Place::new();
    let store = place.open().await;
    for number in 0..2000 {
        put(&store, &format!("/registry/pods/{number:04}"), "12345")
            .await
            .unwrap();
    }
    let usage = store.usage();
    assert_eq!(usage[0].1.objects, 2000);
    store.close().await;
    let database = rusqlite::Connection::open(place.path()).unwrap();
    let back = "DROP TABLE block; DROP TABLE class; ALTER TABLE marks DROP COLUMN counted;
                UPDATE identity SET schema_version = 1";
    database.execute_batch(back).unwrap();
    drop(database);
    for _ in 0..2 {
        let store = place.open().await;
        assert_eq!(store.usage(), usage);
        assert_eq!(list(&store, all()).await.count, 2000);
        store.close().await;
    }
    let database = rusqlite::Connection::open(place.path()).unwrap();
    let kept = "SELECT sum(keys) FROM block";
    let kept: i64 = database.query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 2000);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new();
    place.open().await.close().await;
    let database = rusqlite::Connection::open(place.path()).unwrap();
    database
        .execute("UPDATE identity SET schema_version = 99", [])
        .unwrap();
    drop(database);
    let before = fs::read(place.path()).unwrap();
    let error = refusal(&place).await;
    assert!(
        matches!(
            error,
            OpenError::NewerSchema {
                found: 99,
                known: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(fs::read(place.path()).unwrap() == before, "it was changed");
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_alone() {
    let place = Place::new();
    let database = rusqlite::Connection::open(place.path()).unwrap();
    database
        .execute_batch("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT)")
        .unwrap();
    drop(database);
    let before = fs::read(place.path()).unwrap();
    let error = refusal(&place).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("kine"), "{error}");
    assert!(fs::read(place.path()).unwrap() == before, "it was changed");

    let place = Place::new();
    fs::write(
        place.path(),
        "not a database, but long enough to look like one".repeat(100),
    )
    .unwrap();
    let error = refusal(&place).await;
    let OpenError::Database(fault) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(fault.kind(), FaultKind::Corrupt);
}

#[tokio::test]
async fn a_file_that_must_be_there_is_not_made() {
    let mut place = Place::new();
    place.options.create = false;
    let error = refusal(&place).await;
    let OpenError::Database(fault) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(fault.kind(), FaultKind::Io);
    assert!(!place.path().exists());
}

#[tokio::test]
async fn a_folder_is_made() {
    let mut place = Place::new();
    place.options.path = place.folder().join("a/b/state.db");
    place.open().await.close().await;
    assert!(place.path().exists());
}

/// The revision goes back with the backup, which its user can see; declared as restored, it goes
/// above everything that was given out.
#[tokio::test]
async fn a_backup_can_be_told_and_declared() {
    let mut place = Place::new();
    let store = place.open().await;
    let before = store.identity();
    for value in ["1", "2", "3", "4"] {
        put(&store, "a", value).await.unwrap();
    }
    store.close().await;
    let backup = fs::read(place.path()).unwrap();
    let store = place.open().await;
    let given_out = put(&store, "a", "5").await.unwrap();
    store.close().await;
    fs::write(place.path(), backup).unwrap();

    let error = refusal(&place).await;
    let OpenError::Older { found, noted, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*found, *noted), (given_out - 1, given_out));
    assert!(error.to_string().contains("--restored test"), "{error}");

    place.options.restored = Some(Restored::default());
    let store = place.open().await;
    let after = store.identity();
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_ne!(after.incarnation, before.incarnation);
    assert!(store.revision() > given_out);
    let old = RangeRequest {
        revision: given_out,
        ..all()
    };
    let Err(CallError::Refused(status)) = call::<RangeResponse>(&store, Rpc::Range, &old).await
    else {
        panic!()
    };
    assert_eq!(EtcdError::of(&status), Some(EtcdError::Compacted));
    let kept = list(&store, all()).await;
    assert_eq!(
        (&kept.kvs[0].value[..], kept.kvs[0].mod_revision),
        (&b"4"[..], 5)
    );
    let next = put(&store, "a", "6").await.unwrap();
    assert_eq!(next, given_out + 2);
    store.close().await;
    // A declaration that is repeated changes nothing.
    let store = place.open().await;
    assert_eq!((store.revision(), store.identity()), (next, after));
    store.close().await;
    place.options.restored = None;
    let store = place.open().await;
    assert_eq!((store.revision(), store.identity()), (next, after));
    store.close().await;
}

/// Without the note beside it, as on another machine, only its user knows how far a store got.
#[tokio::test]
async fn how_far_a_backup_had_got_must_be_said_where_nothing_says_it() {
    let mut place = Place::new();
    let store = place.open().await;
    let cluster = store.identity().cluster_id;
    put(&store, "a", "1").await.unwrap();
    store.close().await;
    fs::remove_file(place.folder().join("state.db.given-out")).unwrap();
    place.options.restored = Some(Restored::default());
    let error = refusal(&place).await;
    assert!(matches!(error, OpenError::HowFar { .. }), "{error:?}");
    assert!(error.to_string().contains("--restored test=REVISION"));
    // What was noted is asked for again: the refusal wrote nothing that could be taken for it.
    refusal(&place).await;
    place.options.restored = Some(Restored { above: Some(1000) });
    for _ in 0..2 {
        let store = place.open().await;
        assert_eq!(store.revision(), 1001);
        assert_eq!(store.identity().cluster_id, cluster);
        store.close().await;
    }
}

#[tokio::test]
async fn a_note_that_makes_no_sense_is_refused_and_one_of_another_store_is_not_believed() {
    let place = Place::new();
    place.open().await.close().await;
    let note = place.folder().join("state.db.given-out");
    fs::write(&note, "garbage").unwrap();
    let error = refusal(&place).await;
    assert!(matches!(error, OpenError::BadNote { .. }), "{error:?}");
    assert_eq!(fs::read(&note).unwrap(), b"garbage");
    fs::write(
        &note,
        "keyloom-given-out-1 0000000000000abc 00000000000000000777\n",
    )
    .unwrap();
    let store = place.open().await;
    assert_eq!(put(&store, "a", "1").await.unwrap(), 2);
    store.close().await;
    assert!(
        fs::read_to_string(&note)
            .unwrap()
            .ends_with("00000000000000000002\n")
    );
}
