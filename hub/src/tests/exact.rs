//! What etcd answers exactly to creates and cancels, case by case.

use keyloom_etcd_api::{
    etcdserverpb::{
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    wire::Header,
};
use keyloom_ledger::{StoreSlot, UnifiedRev};
use prost::Message as _;

use super::world::World;
use crate::{Bounds, ClientStream};

fn answers(world: &mut World, requests: Vec<RequestUnion>) -> Vec<(i64, bool, bool, i64, String)> {
    let mut stream = ClientStream::open(&mut world.hub);
    for request in requests {
        let request = WatchRequest {
            request_union: Some(request),
        };
        let request = request.encode_to_vec().into();
        let (hub, ledger) = (&mut world.hub, &world.ledger);
        stream.request(&request, hub, ledger).unwrap();
    }
    let header = |revision| Header {
        revision,
        ..Header::default()
    };
    let mut answers = Vec::new();
    while let Some(response) = stream.next(&header, &world.ledger).unwrap() {
        let r = WatchResponse::decode(response).unwrap();
        let (created, canceled) = (r.created, r.canceled);
        answers.push((
            r.watch_id,
            created,
            canceled,
            r.compact_revision,
            r.cancel_reason,
        ));
    }
    answers
}

fn create(key: &str, range_end: &str, start_revision: i64, watch_id: i64) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        start_revision,
        watch_id,
        ..WatchCreateRequest::default()
    })
}

#[test]
fn creates_and_cancels_are_answered_as_etcd_answers_them() {
    let mut world = World::new(&[9, 1, 1, 1], Bounds::default());
    world
        .ledger
        .raise_floor(StoreSlot::new(1), UnifiedRev::new(5));
    let cancel = |watch_id| RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
    let told = answers(
        &mut world,
        vec![
            create("a", "", 0, 0),
            create("a", "", 0, 7),
            create("a", "", 0, 7),
            create("", "\0", 5, 0),
            create("b", "a", 0, 0),
            create("a", "", -1, 0),
            create("/registry/b/", "/registry/b0", 4, 0),
            create("a", "", 4, 0),
            cancel(7),
            cancel(7),
            cancel(2),
        ],
    );
    let plain =
        |id, created, canceled, compacted| (id, created, canceled, compacted, String::new());
    let refused = |reason: &str| (-1, true, true, 0, reason.to_owned());
    let expected = [
        plain(0, true, false, 0),
        plain(7, true, false, 0),
        refused("mvcc: duplicate watch ID provided on the WatchStream"),
        plain(1, true, false, 0),
        refused("mvcc: watcher range is empty"),
        refused("etcdserver: mvcc: required revision has been compacted"),
        plain(2, true, false, 0),
        plain(2, false, true, 5),
        plain(3, true, false, 0),
        plain(7, false, true, 0),
        plain(2, false, true, 0),
    ];
    assert_eq!(told, expected);
}

/// A client with very many watches had each of its messages look at all of them.
#[test]
fn a_message_costs_the_same_however_many_watches_there_are() {
    const WATCHES: i64 = 20_000;
    const MESSAGES: usize = 400;
    let mut world = World::new(&[9, 1, 1, 1], Bounds::default());
    let mut stream = ClientStream::open(&mut world.hub);
    let mut say = |world: &mut World, union: RequestUnion| {
        let request = WatchRequest {
            request_union: Some(union),
        };
        let request = request.encode_to_vec().into();
        let (hub, ledger) = (&mut world.hub, &world.ledger);
        stream.request(&request, hub, ledger).unwrap();
        stream.pump(hub, ledger);
        let header = |revision| Header {
            revision,
            ..Header::default()
        };
        let mut told = 0;
        while stream.next(&header, ledger).unwrap().is_some() {
            told += 1;
        }
        told
    };
    for _ in 0..WATCHES {
        say(&mut world, create("a", "", 0, 0));
    }
    world.hub.looks.set(0);
    let mut answered = 0;
    for _ in 0..MESSAGES {
        answered += say(&mut world, create("b", "a", 0, 0));
        let asks = WatchProgressRequest {};
        answered += say(&mut world, RequestUnion::ProgressRequest(asks));
    }
    // Each refusal, and progress now and then.
    assert!(answered > MESSAGES + 5, "{answered}");
    let all = usize::try_from(WATCHES).unwrap() * 2 * MESSAGES;
    assert!(
        world.hub.looks.get() * 10 < all,
        "{} of {all}",
        world.hub.looks.get()
    );
    let (looks, most) = (world.hub.looks.get(), 2 * 2 * MESSAGES * 1024);
    assert!(looks < most, "{looks} of {most}");
}
