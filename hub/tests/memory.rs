//! What is kept costs what is counted: else a bound of what is counted is no bound of memory.
//!
//! Alone in its process, because it looks at the memory of the whole process.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a surprise ends the test with the reason"
)]

use std::fs;

use bytes::{Bytes, BytesMut};
use keyloom_etcd_api::{
    etcdserverpb::{
        ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue},
    wire::Header,
};
use keyloom_hub::{Bounds, ClientStream, Feed, Hub, HubGauges, OrderView, Routes, Step};
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};
use keyloom_topology::{ParseOptions, parse};
use prost::Message as _;

/// Where the store stands at first.
const FIRST: i64 = 1_000_000;

/// A ledger of one store whose revisions are everybody's.
struct Same(i64);

impl OrderView for Same {
    fn head(&self) -> UnifiedRev {
        UnifiedRev::new(self.0)
    }

    fn below_next(&self, _: StoreSlot, _: StoreRev) -> UnifiedRev {
        self.head()
    }

    fn shown_up_to(&self, _: StoreSlot, _: StoreRev) -> UnifiedRev {
        self.head()
    }

    fn unified(&self, _: StoreSlot, r: StoreRev) -> Option<UnifiedRev> {
        Some(UnifiedRev::new(r.get()))
    }

    fn store_at(&self, _: StoreSlot, u: UnifiedRev) -> StoreRev {
        StoreRev::new(u.get())
    }

    fn floor(&self, _: StoreSlot) -> UnifiedRev {
        UnifiedRev::default()
    }

    fn compacted(&self) -> UnifiedRev {
        UnifiedRev::default()
    }
}

/// A put of a value of that many bytes over another one.
fn put(revision: i64, size: usize) -> Bytes {
    let kv = |mod_revision| KeyValue {
        key: format!("/registry/pods/default/web-{}", revision % 50).into(),
        create_revision: 100,
        mod_revision,
        version: 7,
        value: vec![b'v'; size].into(),
        lease: 0,
    };
    let event = Event {
        r#type: 0,
        kv: Some(kv(revision)),
        prev_kv: Some(kv(revision - 50)),
    };
    let header = ResponseHeader {
        revision,
        ..ResponseHeader::default()
    };
    let answer = WatchResponse {
        header: Some(header),
        events: vec![event],
        ..WatchResponse::default()
    };
    answer.encode_to_vec().into()
}

/// As an answer may come from a connection: a part of a buffer in which other things came too.
fn received(answer: &Bytes) -> Bytes {
    let mut buffer = BytesMut::with_capacity(answer.len() + 8 * 1024);
    buffer.extend_from_slice(answer);
    buffer.resize(answer.len() + 8 * 1024, b'o');
    buffer.split_to(answer.len()).freeze()
}

/// Bytes that the process has in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * number.and_then(|it| it.parse::<usize>().ok()).expect("kB")
}

fn watch(range: usize) -> Bytes {
    let create = WatchCreateRequest {
        key: "/registry/".into(),
        range_end: format!("/registry0{range}").into(),
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    request.encode_to_vec().into()
}

fn hub(bounds: Bounds) -> Hub {
    let text = "default:\n  endpoint: http://127.0.0.1:2379\n";
    let topology = parse(text, &ParseOptions::default()).expect("a topology");
    let routes = Routes::new(topology.topology, [StoreSlot::DEFAULT]);
    Hub::new(routes, bounds, [(StoreSlot::DEFAULT, StoreRev::new(FIRST))])
}

/// Has so many revisions delivered to a client that watches so many ranges, and gives what memory
/// they took.
fn keep(bounds: Bounds, revisions: i64, size: usize, ranges: usize) -> (Hub, usize) {
    let mut hub = hub(bounds);
    let mut stream = ClientStream::open(&mut hub);
    for range in 0..ranges {
        let order = Same(FIRST);
        let watched = stream.request(&watch(range), &mut hub, &order);
        watched.expect("a watch");
    }
    let header = |revision| Header {
        revision,
        ..Header::default()
    };
    let mut feed = Feed::after(StoreRev::new(FIRST));
    let before = resident();
    for revision in FIRST + 1..=FIRST + revisions {
        let answer = received(&put(revision, size));
        let Step::Groups(groups) = feed.take(&answer).expect("an answer").step else {
            panic!("no groups");
        };
        let order = Same(revision);
        let taken = hub.take(StoreSlot::DEFAULT, groups, &order);
        taken.expect("the next revision");
        stream.pump(&mut hub, &order);
        while let Some(response) = stream.next(&header, &order).expect("a response") {
            assert!(!response.is_empty());
        }
    }
    let costs = resident().saturating_sub(before);
    (hub, costs)
}

#[test]
fn what_is_kept_costs_what_is_counted() {
    // What one lets go would be taken by the next one, unseen.
    let mut hubs = Vec::new();
    for (revisions, size, ranges, most) in [
        (30_000, 30, 1, 700),
        (30_000, 30, 8, 1_000),
        (5_000, 2_000, 1, 10_000),
    ] {
        let (hub, costs) = keep(Bounds::default(), revisions, size, ranges);
        let HubGauges {
            kept_revisions: kept,
            kept_bytes: counted,
            ..
        } = hub.gauges();
        hubs.push(hub);
        assert_eq!(kept, revisions as usize);
        let each = costs / kept;
        let what = format!(
            "values of {size} bytes, {ranges} ranges: {each} bytes for each of {kept} revisions, \
             {costs} in all, {counted} counted"
        );
        println!("{what}");
        assert!(each <= most, "{what}");
        assert!(costs <= counted + counted / 5, "counted too little: {what}");
        assert!(counted <= costs + costs / 4, "counted too much: {what}");
    }
    // Ranges that many watch are counted too, so that their number does not break the bound.
    let bounds = Bounds {
        history_bytes: 2 << 20,
        ..Bounds::default()
    };
    let (hub, _) = keep(bounds, 3_000, 30, 32);
    let gauges = hub.gauges();
    assert!(gauges.kept_bytes <= 2 << 20, "{gauges:?}");
    assert!((500..2_000).contains(&gauges.kept_revisions), "{gauges:?}");
}
