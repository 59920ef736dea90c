//! Tables for watches.

use keyloom_etcd_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchProgressRequest,
};

use super::*;

fn put(etcd: &mut Etcd, key: &'static str, value: &'static str) {
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    etcd.put(&request).unwrap();
}

/// `a` at 2, `b` at 3, `a` again at 4, both deleted at 5.
fn history() -> Etcd {
    let mut etcd = Etcd::default();
    put(&mut etcd, "a", "1");
    put(&mut etcd, "b", "1");
    put(&mut etcd, "a", "2");
    let delete = DeleteRangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..DeleteRangeRequest::default()
    };
    etcd.delete_range(&delete).unwrap();
    etcd
}

fn create(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn ask(stream: &mut WatchStream, etcd: &Etcd, union: RequestUnion) -> Vec<WatchResponse> {
    let request_union = Some(union);
    stream.request(etcd, WatchRequest { request_union })
}

fn watch(stream: &mut WatchStream, etcd: &Etcd, create: WatchCreateRequest) -> Vec<WatchResponse> {
    ask(stream, etcd, RequestUnion::CreateRequest(create))
}

fn progress(stream: &mut WatchStream, etcd: &Etcd) -> Vec<(i64, i64)> {
    let responses = ask(
        stream,
        etcd,
        RequestUnion::ProgressRequest(WatchProgressRequest {}),
    );
    let brief = |response: &WatchResponse| (response.watch_id, revision(response));
    responses.iter().map(brief).collect()
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.unwrap().revision
}

/// Events as `+a4` and `-a5`.
fn events(response: &WatchResponse) -> String {
    let brief = |event: &Event| {
        let kv = event.kv.as_ref().unwrap();
        let sign = if event.r#type() == EventType::Put {
            '+'
        } else {
            '-'
        };
        format!(
            "{sign}{}{}",
            std::str::from_utf8(&kv.key).unwrap(),
            kv.mod_revision
        )
    };
    response
        .events
        .iter()
        .map(brief)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn created_comes_first_then_what_was_missed() {
    let (etcd, mut stream) = (history(), WatchStream::default());
    let responses = watch(&mut stream, &etcd, create(3));
    assert!(responses[0].created && responses[0].events.is_empty());
    assert_eq!(responses.iter().map(revision).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(events(&responses[1]), "+b3 +a4 -a5 -b5");
}

#[test]
fn what_happens_later_comes_by_revision() {
    let (mut etcd, mut stream) = (history(), WatchStream::default());
    assert_eq!(watch(&mut stream, &etcd, create(0)).len(), 1);
    put(&mut etcd, "c", "1");
    put(&mut etcd, "zz", "outside");
    put(&mut etcd, "d", "1");
    let responses = stream.deliver(&etcd);
    let brief: Vec<_> = responses.iter().map(|r| (revision(r), events(r))).collect();
    assert_eq!(brief, [(6, "+c6".to_owned()), (8, "+d8".to_owned())]);
    assert!(stream.deliver(&etcd).is_empty());
}

#[test]
fn previous_values_are_given_where_they_can_be_read() {
    let (mut etcd, mut stream) = (history(), WatchStream::default());
    let with_previous = |start| WatchCreateRequest {
        prev_kv: true,
        ..create(start)
    };
    let previous = |response: &WatchResponse| -> Vec<_> {
        let version = |event: &Event| event.prev_kv.as_ref().map(|kv| kv.mod_revision);
        response.events.iter().map(version).collect()
    };
    let responses = watch(&mut stream, &etcd, with_previous(2));
    assert_eq!(
        previous(&responses[1]),
        [None, None, Some(2), Some(4), Some(3)]
    );
    let compact = CompactionRequest {
        revision: 4,
        physical: false,
    };
    etcd.compact(&compact).unwrap();
    let responses = watch(&mut stream, &etcd, with_previous(4));
    assert_eq!(events(&responses[1]), "+a4 -a5 -b5");
    assert_eq!(previous(&responses[1]), [None, Some(4), Some(3)]);
}

#[test]
fn filters_leave_out_puts_or_deletes() {
    for (filter, expected) in [
        (FilterType::Noput, "-a5 -b5"),
        (FilterType::Nodelete, "+a2 +b3 +a4"),
    ] {
        let create = WatchCreateRequest {
            filters: vec![filter.into()],
            ..create(1)
        };
        let responses = watch(&mut WatchStream::default(), &history(), create);
        assert_eq!(events(&responses[1]), expected);
    }
}

#[test]
fn a_start_below_the_compaction_is_canceled_after_it_was_created() {
    let (mut etcd, mut stream) = (history(), WatchStream::default());
    let compact = CompactionRequest {
        revision: 4,
        physical: false,
    };
    etcd.compact(&compact).unwrap();
    let responses = watch(&mut stream, &etcd, create(3));
    assert!(responses[0].created && !responses[0].canceled);
    assert!(responses[1].canceled && !responses[1].created);
    assert_eq!(
        (responses[1].compact_revision, revision(&responses[1])),
        (4, 0)
    );
    assert_eq!(responses[1].watch_id, responses[0].watch_id);
    assert!(stream.deliver(&etcd).is_empty());
    assert_eq!(progress(&mut stream, &etcd), [], "its id is still there");
    let responses = watch(&mut stream, &etcd, create(4));
    assert_eq!(
        events(&responses[1]),
        "+a4 -a5 -b5",
        "at the compaction is allowed"
    );
}

#[test]
fn what_cannot_be_watched_is_refused_without_an_id() {
    let (etcd, mut stream) = (history(), WatchStream::default());
    let backward = WatchCreateRequest {
        range_end: "a".into(),
        ..create(0)
    };
    let seven = || WatchCreateRequest {
        watch_id: 7,
        ..create(0)
    };
    assert_eq!(watch(&mut stream, &etcd, seven())[0].watch_id, 7);
    for (create, reason) in [
        (
            create(-1),
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (backward, "mvcc: watcher range is empty"),
        (
            seven(),
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
    ] {
        let responses = watch(&mut stream, &etcd, create);
        assert_eq!(responses.len(), 1);
        assert!(responses[0].created && responses[0].canceled);
        assert_eq!(
            (responses[0].watch_id, &*responses[0].cancel_reason),
            (-1, reason)
        );
    }
}

#[test]
fn ids_are_counted_from_0_and_leave_out_those_in_use() {
    let (etcd, mut stream) = (history(), WatchStream::default());
    let id = |stream: &mut WatchStream, watch_id| {
        let create = WatchCreateRequest {
            watch_id,
            ..create(0)
        };
        watch(stream, &etcd, create)[0].watch_id
    };
    assert_eq!(
        [0, 1, 0, 0].map(|given| id(&mut stream, given)),
        [0, 1, 2, 3]
    );
    let cancel = |watch_id| RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
    let responses = ask(&mut stream, &etcd, cancel(1));
    assert!(responses[0].canceled && !responses[0].created);
    assert!(ask(&mut stream, &etcd, cancel(1)).is_empty());
}

#[test]
fn a_start_in_the_future_waits_in_silence() {
    let (mut etcd, mut stream) = (history(), WatchStream::default());
    assert_eq!(watch(&mut stream, &etcd, create(7)).len(), 1);
    put(&mut etcd, "a", "6");
    assert!(stream.deliver(&etcd).is_empty());
    assert_eq!(progress(&mut stream, &etcd), []);
    put(&mut etcd, "a", "7");
    assert_eq!(events(&stream.deliver(&etcd)[0]), "+a7");
    assert_eq!(progress(&mut stream, &etcd), [(-1, 7)]);
}

#[test]
fn progress_is_due_to_the_quiet_ones_that_asked() {
    let (mut etcd, mut stream) = (history(), WatchStream::default());
    watch(&mut stream, &etcd, create(0));
    let asking = WatchCreateRequest {
        progress_notify: true,
        ..create(0)
    };
    watch(&mut stream, &etcd, asking);
    let due = |stream: &mut WatchStream, etcd: &Etcd| -> Vec<_> {
        let responses = stream.progress_due(etcd);
        responses
            .iter()
            .map(|r| (r.watch_id, revision(r)))
            .collect()
    };
    assert_eq!(due(&mut stream, &etcd), [(1, 5)]);
    put(&mut etcd, "a", "6");
    stream.deliver(&etcd);
    assert_eq!(due(&mut stream, &etcd), []);
    assert_eq!(due(&mut stream, &etcd), [(1, 6)]);
}

#[test]
fn many_revisions_come_in_several_responses() {
    let mut etcd = Etcd::default();
    for _ in 0..2500 {
        put(&mut etcd, "a", "v");
    }
    let responses = watch(&mut WatchStream::default(), &etcd, create(1));
    let sizes: Vec<_> = responses
        .iter()
        .map(|response| response.events.len())
        .collect();
    assert_eq!(sizes, [0, 1000, 1000, 500]);
    assert!(responses.iter().all(|response| revision(response) == 2501));
}

#[test]
fn large_responses_are_divided_for_those_that_allow_it() {
    let mut etcd = Etcd::default();
    let value = Bytes::from(vec![0; 900_000]);
    for key in ["a", "b", "c", "d", "e"] {
        let request = PutRequest {
            key: key.into(),
            value: value.clone(),
            ..PutRequest::default()
        };
        etcd.put(&request).unwrap();
    }
    let divided = WatchCreateRequest {
        fragment: true,
        ..create(1)
    };
    let responses = watch(&mut WatchStream::default(), &etcd, divided);
    let brief: Vec<_> = responses
        .iter()
        .map(|r| (r.events.len(), r.fragment))
        .collect();
    assert_eq!(brief, [(0, false), (2, true), (2, true), (1, false)]);
    let responses = watch(&mut WatchStream::default(), &etcd, create(1));
    assert_eq!(responses[1].events.len(), 5);
}
