//! A client that does not read its watch stream.

use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use keyloom_tests::{
    Client,
    matrix::{Ground, Row},
    poll::LONG,
    watching::Watching,
};
use tokio::time::{Instant, timeout};
use tonic::Streaming;

/// How much is written before, so that every cache is as large as it becomes, and with the stream
/// that nobody reads; in pieces over the three stores.
const BEFORE: usize = 300;
const PIECES: usize = 600;
const PIECE: usize = 128 * 1024;

/// How much more memory that may take: much less than the 79 MB that are written.
const MORE: f64 = 40e6;

const FOLDERS: [&str; 3] = [
    "/registry/secrets/default/",
    "/registry/secrets/tenant-a/",
    "/registry/pods/default/",
];

fn everything() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "/registry/".into(),
        range_end: "/registry0".into(),
        ..WatchCreateRequest::default()
    }
}

async fn resident(ground: &Ground) -> f64 {
    let metrics = ground.keyloom.metrics().await;
    metrics.sum("process_resident_memory_bytes", &[])
}

fn revisions(told: &WatchResponse) -> impl Iterator<Item = i64> {
    assert!(!told.canceled, "{told:?}");
    let events = told.events.iter();
    events.map(|event| event.kv.as_ref().expect("a key").mod_revision)
}

/// Writes, and has each write told to somebody who reads.
async fn write(client: &Client, reader: &mut Watching, pieces: usize) -> Vec<i64> {
    let (value, mut written, mut read) = (vec![b'v'; PIECE], Vec::new(), Vec::new());
    for number in 0..pieces {
        let key = format!("{}{}", FOLDERS[number % FOLDERS.len()], number % 7);
        written.push(client.put(&key, &value).await);
        while read.len() < written.len() {
            read.extend(revisions(&reader.next().await));
        }
    }
    assert_eq!(read, written);
    written
}

/// A stream of which nothing is read but that it begins.
async fn unread(client: &Client) -> Streaming<WatchResponse> {
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(everything())),
    };
    let requests = stream::iter([request]).chain(stream::pending());
    let mut watch = client.watch().max_decoding_message_size(usize::MAX);
    let mut unread = watch.watch(requests).await.expect("a stream").into_inner();
    let created = unread.message().await.expect("a message");
    assert!(created.expect("the stream goes on").created);
    unread
}

/// Others are told at once, memory stays, and in the end it has missed nothing either.
#[tokio::test]
async fn is_no_burden_and_misses_nothing() {
    let ground = Ground::with(&["--term", "30s", "--watch-history", "20"]).await;
    let client = ground.keyloom.client();
    let mut reader = Watching::open(&client);
    reader.create(everything());
    assert!(reader.next().await.created);
    write(&client, &mut reader, BEFORE).await;

    let slow = ground.keyloom.client();
    let mut unread = unread(&slow).await;
    let before = resident(&ground).await;
    let written = write(&client, &mut reader, PIECES).await;
    let more = resident(&ground).await - before;
    assert!(
        more < MORE,
        "{more} bytes more for a stream that nobody reads"
    );

    let begun = Instant::now();
    let mut late = Vec::new();
    while late.len() < written.len() {
        let told = timeout(LONG, unread.message()).await;
        let told = told.expect("what was missed").expect("a message");
        late.extend(revisions(&told.expect("the stream goes on")));
    }
    assert_eq!(late, written);
    let mut row = Row::of("a client never reads its watch stream", "watch");
    row.recovered(begun.elapsed());
    row.write(&format!(
        "{PIECES} events of {} KiB twice, {:.0} MB more memory",
        PIECE / 1024,
        more / 1e6
    ));
}
