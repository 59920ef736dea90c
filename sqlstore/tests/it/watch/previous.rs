//! What an event says of the value that it replaced.

use super::*;

/// As in etcd: what an event replaced is looked up one revision before it, and not below what is
/// kept.
#[tokio::test]
async fn an_event_at_the_compaction_has_no_previous_value() {
    let place = Place::new();
    let store = place.open().await;
    // Somebody wants previous values all the time, so that they are in memory.
    let mut first = Stream::open(&store).await;
    first.create(everything(0));
    assert!(first.next().await.created);
    for value in ["1", "2", "3"] {
        put(&store, "a", value).await.unwrap();
    }
    let compaction = CompactionRequest {
        revision: 3,
        physical: true,
    };
    let _: CompactionResponse = call(&store, Rpc::Compact, &compaction).await.unwrap();
    let mut stream = Stream::open(&store).await;
    stream.create(everything(3));
    assert!(stream.next().await.created);
    let (_, events) = stream.until_progress().await;
    let previous = events[&0].iter().map(|event| {
        let before = event.prev_kv.as_ref().map(|kv| kv.mod_revision);
        (event.kv.as_ref().unwrap().mod_revision, before)
    });
    assert_eq!(previous.collect::<Vec<_>>(), [(3, None), (4, Some(3))]);
}
