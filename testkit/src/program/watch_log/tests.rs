//! What a log says of streams, and what it refuses.

use keyloom_etcd_api::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
};

use super::{Headers, WatchLog};

fn response(id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        watch_id: id,
        ..WatchResponse::default()
    }
}

fn created(id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..response(id, revision)
    }
}

fn event(key: &'static str, revision: i64, previous: Option<i64>) -> Event {
    let kv = |revision| KeyValue {
        key: key.into(),
        create_revision: 2,
        mod_revision: revision,
        ..KeyValue::default()
    };
    Event {
        kv: Some(kv(revision)),
        prev_kv: previous.map(kv),
        ..Event::default()
    }
}

fn events(id: i64, revision: i64, revisions: &[i64]) -> WatchResponse {
    WatchResponse {
        events: revisions.iter().map(|at| event("k", *at, None)).collect(),
        ..response(id, revision)
    }
}

fn canceled(id: i64, compact_revision: i64) -> WatchResponse {
    WatchResponse {
        canceled: true,
        compact_revision,
        ..response(id, 0)
    }
}

fn log(responses: &[WatchResponse]) -> Result<WatchLog, String> {
    let mut log = WatchLog::new(Headers::NeverAhead);
    for response in responses {
        log.take(response)?;
    }
    Ok(log)
}

#[test]
fn how_revisions_are_divided_into_responses_is_free() {
    let one = log(&[created(0, 1), events(0, 4, &[2, 3, 3, 4])]).unwrap();
    let other = log(&[created(0, 1), events(0, 3, &[2, 3, 3]), events(0, 4, &[4])]).unwrap();
    one.same(&other, 0, true).unwrap();
    assert_eq!(one.resume(), [(0, 5)]);
    assert_eq!(one.events(), 4);
}

#[test]
fn what_a_stream_may_not_do_is_seen() {
    let fragment = |at: &[i64], more| WatchResponse {
        fragment: more,
        ..events(0, 3, at)
    };
    assert!(
        log(&[
            created(0, 1),
            fragment(&[2, 3], true),
            fragment(&[3], false)
        ])
        .is_ok()
    );
    let broken: [(&str, Vec<WatchResponse>); 10] = [
        ("events before created", vec![events(0, 2, &[2])]),
        ("created twice", vec![created(0, 1), created(0, 1)]),
        (
            "created above its events",
            vec![created(0, 3), events(0, 3, &[3])],
        ),
        ("backwards", vec![created(0, 1), events(0, 3, &[3, 2])]),
        (
            "a revision in two responses",
            vec![created(0, 1), events(0, 3, &[3]), events(0, 3, &[3])],
        ),
        (
            "an event below progress",
            vec![created(0, 1), response(0, 5), events(0, 5, &[5])],
        ),
        (
            "an event below everybody's progress",
            vec![created(0, 1), response(-1, 5), events(0, 5, &[5])],
        ),
        (
            "a header below its events",
            vec![created(0, 1), events(0, 2, &[3])],
        ),
        (
            "an event after the end",
            vec![created(0, 1), canceled(0, 0), events(0, 3, &[3])],
        ),
        (
            "interrupted fragments",
            vec![created(0, 1), fragment(&[2], true), response(-1, 1)],
        ),
    ];
    for (what, responses) in broken {
        assert!(log(&responses).is_err(), "{what}");
    }
}

#[test]
fn differences_are_found() {
    let whole = log(&[created(0, 1), events(0, 3, &[2, 3]), canceled(0, 9)]).unwrap();
    assert_eq!(whole.lost(), [0]);
    let others = [
        vec![],
        vec![created(0, 1), events(0, 3, &[3]), canceled(0, 9)],
        vec![created(0, 1), events(0, 3, &[2, 3, 3]), canceled(0, 9)],
        vec![created(0, 1), events(0, 3, &[2, 3]), canceled(0, 8)],
        vec![created(0, 1), events(0, 3, &[2, 3])],
        vec![created(1, 1), events(1, 3, &[2, 3]), canceled(1, 9)],
    ];
    for other in others {
        let other = log(&other).unwrap();
        assert!(whole.same(&other, 0, true).is_err(), "{other:?}");
    }
    let begun = log(&[created(0, 1), events(0, 2, &[2])]).unwrap();
    whole.same(&begun, 0, false).unwrap();
    assert!(begun.same(&whole, 0, false).is_err(), "more than expected");
}

#[test]
fn a_previous_value_may_be_remembered_longer_and_not_missing() {
    let with = |previous| {
        let response = WatchResponse {
            events: vec![event("k", 5, previous)],
            ..response(0, 5)
        };
        log(&[created(0, 1), response]).unwrap()
    };
    with(None).same(&with(Some(4)), 5, true).unwrap();
    assert!(with(None).same(&with(Some(4)), 4, true).is_err());
    assert!(with(Some(4)).same(&with(None), 5, true).is_err());
    assert!(with(Some(4)).same(&with(Some(3)), 5, true).is_err());
}
