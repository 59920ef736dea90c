//! What the store keeps of its requests.

use super::*;

#[test]
fn what_is_kept_for_watches_keeps_no_request() {
    let mut bench = bench();
    bench.shared.feed.more_want_prev();
    let buffer = Bytes::from(vec![b'r'; 8 * 1024]);
    for value in [10..40, 40..60] {
        let put = PutRequest {
            key: buffer.slice(..10),
            value: buffer.slice(value),
            ..PutRequest::default()
        };
        for answer in bench.ask(vec![Request::Put(put)]) {
            answer.unwrap();
        }
    }
    let head = bench.shared.feed.head();
    let Recent::Here(kept) = bench.shared.feed.take(head, head, true, 1) else {
        panic!("it is kept");
    };
    let event = kept[0].events[0].clone();
    let (kv, before) = (event.kv.unwrap(), event.prev_kv.unwrap());
    assert_eq!((kv.key.len(), kv.value.len()), (10, 20));
    assert_eq!((before.key.len(), before.value.len()), (10, 30));
    assert_eq!(kept[0].events.capacity(), 1);
    assert!(buffer.is_unique(), "somebody has the buffer still");
}
