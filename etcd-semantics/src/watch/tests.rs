//! The protocol by the letter, and fragments against a copy of what etcd does.

use keyloom_etcd_api::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn create(key: &'static str, range_end: &'static str, start: i64, id: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: start,
        watch_id: id,
        ..WatchCreateRequest::default()
    }
}

fn begin(watches: &mut Watches<()>, start: i64, id: i64) -> Result<i64, &'static str> {
    let admitted = watches.admit(&create("a", "", start, id))?;
    watches.insert(&admitted, Some(()));
    Ok(admitted.id)
}

#[test]
fn what_cannot_be_watched_is_refused_in_etcds_words() {
    let mut watches = Watches::<()>::default();
    let mut refused = |request| watches.admit(&request).unwrap_err();
    assert_eq!(
        refused(create("a", "", -1, 0)),
        "etcdserver: mvcc: required revision has been compacted"
    );
    assert_eq!(refused(create("b", "a", 0, 0)), EMPTY_RANGE);
    assert!(watches.admit(&create("", "\0", 0, 0)).is_ok());
}

#[test]
fn ids_are_free_ones_and_stay_taken_until_the_client_cancels() {
    let mut watches = Watches::default();
    assert_eq!(begin(&mut watches, 0, 0), Ok(0));
    assert_eq!(begin(&mut watches, 0, 1), Ok(1));
    assert_eq!(begin(&mut watches, 0, 0), Ok(2));
    assert_eq!(begin(&mut watches, 0, 1), Err(DUPLICATE_ID));
    assert_eq!(watches.lose(1), Some(()));
    assert_eq!(watches.lose(1), None);
    assert_eq!(begin(&mut watches, 0, 1), Err(DUPLICATE_ID));
    assert_eq!(watches.remove(1), Some(None));
    assert_eq!(watches.remove(1), None);
    assert_eq!(begin(&mut watches, 0, 1), Ok(1));
    // As in etcd, ids that were given are not given again.
    assert_eq!(watches.remove(0), Some(Some(())));
    assert_eq!(begin(&mut watches, 0, 0), Ok(3));
}

#[test]
fn progress_of_all_is_told_where_every_watch_can_hear_it() {
    let mut watches = Watches::default();
    assert!(!watches.may_tell_all(9), "of no watch there is no progress");
    begin(&mut watches, 0, 1).unwrap();
    assert!(watches.may_tell_all(9));
    begin(&mut watches, 10, 2).unwrap();
    begin(&mut watches, 10, 3).unwrap();
    assert!(!watches.may_tell_all(9) && watches.may_tell_all(10));
    watches.remove(2);
    assert!(!watches.may_tell_all(9));
    watches.remove(3);
    assert!(watches.may_tell_all(9));
    watches.lose(1);
    assert!(!watches.may_tell_all(9), "one never has everything");
    watches.ask(9);
    assert_eq!(watches.asked(), None);
    watches.remove(1);
    begin(&mut watches, 3, 1).unwrap();
    watches.ask(9);
    watches.ask(12);
    assert_eq!(watches.asked(), Some(9), "the first one is to be answered");
    watches.answered();
    assert_eq!(watches.asked(), None);
}

#[test]
fn a_tick_is_for_those_that_asked_and_had_no_event() {
    let mut watches = Watches::default();
    let asks = |id, start| WatchCreateRequest {
        progress_notify: true,
        ..create("a", "", start, id)
    };
    for request in [asks(1, 0), asks(2, 7), asks(3, 0), create("a", "", 0, 4)] {
        let admitted = watches.admit(&request).unwrap();
        watches.insert(&admitted, Some(()));
    }
    watches.sent(1);
    watches.lose(3);
    assert_eq!(watches.due(), [(2, 7)]);
    assert_eq!(watches.due(), [(1, 0), (2, 7)]);
}

#[test]
fn what_an_event_replaced_is_shown_above_the_compaction() {
    let wants = Options {
        prev_kv: true,
        ..Options::default()
    };
    assert!(wants.shows_previous(4, 3) && !wants.shows_previous(3, 3));
    assert!(!Options::default().shows_previous(4, 3));
}

fn response(events: &[Event]) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision: 300,
            ..ResponseHeader::default()
        }),
        watch_id: 7,
        events: events.to_vec(),
        ..WatchResponse::default()
    }
}

/// etcd's loop, word for word.
fn as_etcd(whole: &WatchResponse, limit: usize) -> Vec<usize> {
    if whole.encoded_len() < limit || whole.events.len() < 2 {
        return vec![whole.events.len()];
    }
    let (mut counts, mut at) = (Vec::new(), 0);
    while at < whole.events.len() {
        let mut current = WatchResponse {
            events: Vec::new(),
            fragment: true,
            ..whole.clone()
        };
        for event in &whole.events[at..] {
            current.events.push(event.clone());
            if current.events.len() > 1 && current.encoded_len() >= limit {
                current.events.pop();
                break;
            }
            at += 1;
        }
        counts.push(current.events.len());
    }
    counts
}

proptest! {
    #[test]
    fn fragments_are_etcds(sizes in prop::collection::vec(0_usize..400, 0..12), limit in 30_usize..900) {
        let event = |size: &usize| Event {
            kv: Some(KeyValue { value: vec![7; *size].into(), ..KeyValue::default() }),
            ..Event::default()
        };
        let events: Vec<_> = sizes.iter().map(event).collect();
        let whole = response(&events);
        let around = response(&[]).encoded_len();
        let size = |event: &Event| prost::encoding::message::encoded_len(11, event);
        let sizes: Vec<_> = events.iter().map(size).collect();
        let cut = fragments(around, &sizes, limit);
        let counts: Vec<_> = cut.iter().map(ExactSizeIterator::len).collect();
        prop_assert_eq!(counts, as_etcd(&whole, limit));
        prop_assert_eq!(cut.last().unwrap().end, events.len());
    }
}
