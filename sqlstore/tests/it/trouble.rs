//! A disk that is full, a database that is locked or written by another program: clear errors,
//! no wrong answers, and recovery.

use bytes::Bytes;
use keyloom_etcd_api::{
    Code, EtcdError, Metadata, Rpc,
    etcdserverpb::{
        AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DefragmentRequest,
        DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse,
        PutRequest, PutResponse, StatusRequest, StatusResponse,
    },
};
use keyloom_sqlstore::SqliteStore;
use keyloom_store::{Call, CallError, Lane, Store as _};
use prost::Message as _;
use tokio::time::{Duration, Instant};

use crate::support::{Place, all, call, list, put};

async fn alarms(store: &SqliteStore) -> usize {
    let answer: AlarmResponse = call(store, Rpc::Alarm, &AlarmRequest::default())
        .await
        .unwrap();
    answer.alarms.len()
}

async fn status(store: &SqliteStore) -> StatusResponse {
    call(store, Rpc::Status, &StatusRequest {}).await.unwrap()
}

async fn compact(store: &SqliteStore, revision: i64) {
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    let _done: CompactionResponse = call(store, Rpc::Compact, &request).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_mended() {
    let mut place = Place::new();
    place.options.max_pages = 300;
    let store = place.open().await;
    let value = "v".repeat(20_000);
    let mut written = 0;
    let error = loop {
        match put(&store, &format!("/k/{written:04}"), &value).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 300);
    };
    let CallError::Refused(status_of) = error else {
        panic!("{error:?}")
    };
    assert_eq!(EtcdError::of(&status_of), Some(EtcdError::NoSpace));
    assert_eq!(alarms(&store).await, 1);
    assert_eq!(status(&store).await.errors.len(), 1);
    // Until it is really full: not even a small one fits.
    let mut small = 0;
    while put(&store, &format!("/s/{small:04}"), &"v".repeat(100))
        .await
        .is_ok()
    {
        small += 1;
    }
    let written = written + small;
    // Reading goes on, and nothing of the refused writes is there.
    assert_eq!(list(&store, all()).await.count, written);
    assert_eq!(store.revision(), 1 + written);

    // Deletes go on, one by one and together, also where a put waits beside them; the alarm stays
    // until a put fits.
    let delete = |key: &str, range_end: &str| DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        prev_kv: false,
    };
    let value = "v".repeat(20_000);
    let (one, failed) = (delete("/s/0000", ""), put(&store, "/k/more", &value));
    let deleted = call::<DeleteRangeResponse>(&store, Rpc::DeleteRange, &one);
    let (deleted, failed) = tokio::join!(deleted, failed);
    assert_eq!(deleted.unwrap().deleted, 1);
    assert!(failed.is_err());
    assert_eq!(alarms(&store).await, 1);
    let rest = delete("/", "0");
    let done: DeleteRangeResponse = call(&store, Rpc::DeleteRange, &rest).await.unwrap();
    assert_eq!(done.deleted, written - 1);
    assert_eq!(alarms(&store).await, 1);
    compact(&store, store.revision()).await;
    put(&store, "/k/again", &value).await.unwrap();
    assert_eq!(alarms(&store).await, 0);
    assert!(status(&store).await.errors.is_empty());
    store.close().await;
}

#[tokio::test]
async fn space_is_given_back() {
    let place = Place::new();
    let store = place.open().await;
    for round in 0..20 {
        put(&store, "/k", &format!("{round}{}", "v".repeat(1_000_000)))
            .await
            .unwrap();
    }
    let hash = |revision| {
        let store = store.clone();
        async move {
            let request = HashKvRequest { revision };
            let answer: HashKvResponse = call(&store, Rpc::HashKV, &request).await.unwrap();
            answer.hash
        }
    };
    let before = (status(&store).await.db_size, hash(21).await);
    compact(&store, 21).await;
    let _done: DefragmentResponse = call(&store, Rpc::Defragment, &DefragmentRequest {})
        .await
        .unwrap();
    let after = (status(&store).await, hash(21).await);
    assert!(
        before.0 > 20_000_000 && after.0.db_size < 2_000_000,
        "{before:?} {after:?}"
    );
    assert_eq!(before.1, after.1);
    assert_ne!(hash(0).await, 0);
    store.close().await;
    assert!(std::fs::metadata(place.path()).unwrap().len() < 2_000_000);
}

#[tokio::test]
async fn a_lock_of_another_program_is_told_and_waited_for() {
    let mut place = Place::new();
    place.options.busy_timeout = Duration::from_millis(50);
    let store = place.open().await;
    put(&store, "a", "1").await.unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let Err(CallError::Refused(status)) = put(&store, "a", "2").await else {
        panic!()
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("locked by another process"),
        "{status:?}"
    );
    assert!(status.message().contains("store test ("), "{status:?}");
    assert_eq!(list(&store, all()).await.kvs[0].mod_revision, 2);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(put(&store, "a", "3").await.unwrap(), 3);
    store.close().await;
}

#[tokio::test]
async fn a_write_of_another_program_repeats_no_revision() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, "a", "1").await.unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other
        .execute("UPDATE marks SET revision = 70, next_place = 90", [])
        .unwrap();
    assert_eq!(put(&store, "a", "2").await.unwrap(), 71);
    assert_eq!(list(&store, all()).await.count, 1);
    store.close().await;
}

#[tokio::test]
async fn who_gives_up_waiting_is_not_written() {
    let mut place = Place::new();
    place.options.busy_timeout = Duration::from_secs(20);
    let store = place.open().await;
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first takes the writer with it into the wait, the second waits in the queue.
    let first = tokio::spawn({
        let store = store.clone();
        async move { put(&store, "first", "").await }
    });
    let request = PutRequest {
        key: "second".into(),
        ..PutRequest::default()
    };
    let late = Call {
        metadata: Metadata::default(),
        rpc: Rpc::Put,
        message: Bytes::from(request.encode_to_vec()),
        lane: Lane::Unary,
        deadline: Some((Instant::now() + Duration::from_millis(100)).into_std()),
        idempotent: false,
    };
    tokio::task::yield_now().await;
    assert!(matches!(store.call(late).await, Err(CallError::TimedOut)));
    other.execute_batch("COMMIT").unwrap();
    first.await.unwrap().unwrap();
    let again: PutResponse = call(&store, Rpc::Put, &request).await.unwrap();
    assert_eq!(
        again.header.unwrap().revision,
        3,
        "the one that gave up took no revision"
    );
    store.close().await;
}
