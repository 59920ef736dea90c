//! Topologies that change under load: no call fails, no acknowledged write is invisible, no event
//! is lost or repeated. `KEYLOOM_RELOADS` says how many changes.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest,
    watch_request::RequestUnion,
};
use keyloom_tests::{
    Client, Keyloom,
    etcd::{Etcd, Version},
    poll::{LONG, eventually},
};
use tokio::time::timeout;

/// (revision, key, is a deletion)
pub(crate) type Change = (i64, String, bool);

/// Where the stores are, and which routes there are.
struct Plan {
    urls: Vec<String>,
}

impl Plan {
    /// Every topology routes differently from the one before, or has other limits.
    fn file(&self, number: usize) -> String {
        let [default, roles, moving] = &self.urls[..] else {
            panic!("three stores")
        };
        let pods = number % 4 < 2;
        let limit = 1000 + number;
        let mut file = format!(
            "default: {{endpoint: '{default}'}}\nbackends:\n- {{name: roles, endpoint: '{roles}', \
             prefix: {{prefix: roles}}, limits: {{maxInFlight: {limit}}}}}\n"
        );
        let kind = if number.is_multiple_of(2) {
            "leases"
        } else {
            "events"
        };
        file += &format!("- {{name: idle, endpoint: '{moving}', prefix: {{prefix: {kind}}}}}\n");
        if pods {
            file += &format!("- {{name: pods, endpoint: '{moving}', prefix: {{prefix: pods}}}}\n");
        }
        file
    }
}

/// How many changes were taken, and whether the last file was refused.
pub(crate) async fn status(keyloom: &Keyloom) -> (usize, bool) {
    let (_, text) = keyloom.admin("/topology/status").await;
    let changes = text.lines().find_map(|line| line.strip_prefix("changes: "));
    let changes = changes.unwrap_or_else(|| panic!("{text}"));
    (changes.parse().unwrap(), text.contains("refused: "))
}

async fn refusals(keyloom: &Keyloom) -> usize {
    let (_, text) = keyloom.admin("/metrics").await;
    let line = "keyloom_proxy_topology_reloads_total{outcome=\"Refused\"} ";
    let count = text.lines().find_map(|found| found.strip_prefix(line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Writes keys, reads each back, and deletes it, so that its range may move. Every call must work.
pub(crate) async fn write(
    client: Client,
    prefix: &'static str,
    stop: Arc<AtomicBool>,
) -> Vec<Change> {
    let mut log = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return log;
        }
        let key = format!("{prefix}k{}", number % 5);
        let put = PutRequest {
            key: key.clone().into(),
            value: number.to_string().into(),
            ..PutRequest::default()
        };
        let answer = client
            .kv()
            .put(put)
            .await
            .expect("no call fails")
            .into_inner();
        log.push((answer.header.unwrap().revision, key.clone(), false));
        let get = RangeRequest {
            key: key.clone().into(),
            ..RangeRequest::default()
        };
        let answer = client
            .kv()
            .range(get)
            .await
            .expect("no call fails")
            .into_inner();
        assert_eq!(
            answer.kvs[0].value,
            number.to_string(),
            "an acknowledged write is seen"
        );
        let delete = DeleteRangeRequest {
            key: key.clone().into(),
            ..DeleteRangeRequest::default()
        };
        let answer = client
            .kv()
            .delete_range(delete)
            .await
            .expect("no call fails")
            .into_inner();
        assert_eq!(answer.deleted, 1, "an acknowledged write is seen");
        log.push((answer.header.unwrap().revision, key, true));
        // Room for a change of routes.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    unreachable!("numbers do not end")
}

/// Reads a watch of a prefix until it has come to a revision.
pub(crate) async fn read(client: Client, prefix: &'static str, end: &str) -> Vec<Change> {
    let range = keyloom_etcd_api::KeyRange::prefix(prefix.into());
    let create = WatchCreateRequest {
        range_end: range.range_end(),
        key: range.start,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = stream::iter([request]).chain(stream::pending());
    let answers = client.watch().watch(requests).await;
    let mut answers = answers.expect("a watch").into_inner();
    let mut seen: Vec<Change> = Vec::new();
    loop {
        let answer = timeout(LONG, answers.next())
            .await
            .expect("something happens");
        let answer = answer
            .expect("the watch goes on")
            .expect("the watch goes on");
        assert!(!answer.canceled, "{answer:?}");
        for event in answer.events {
            let kv = event.kv.unwrap();
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            if key.ends_with(end) {
                return seen;
            }
            seen.push((kv.mod_revision, key, event.r#type == 1));
        }
    }
}

fn reloads() -> usize {
    let given = env::var("KEYLOOM_RELOADS").ok();
    given.map_or(20, |text| {
        text.parse().expect("KEYLOOM_RELOADS is a number")
    })
}

#[tokio::test]
async fn changes_under_load_fail_no_call_and_lose_no_event() {
    let stores = Etcd::start_all([Version::V36, Version::V36, Version::V36]).await;
    let plan = Plan {
        urls: stores.iter().map(Etcd::url).collect(),
    };
    let keyloom = Keyloom::start(&plan.file(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let watches: Vec<_> = ["/registry/", "/registry/pods/", "/registry/roles/"]
        .into_iter()
        .map(|prefix| (prefix, tokio::spawn(read(keyloom.client(), prefix, "/end"))))
        .collect();
    let writers: Vec<_> = [
        "/registry/pods/a/",
        "/registry/pods/b/",
        "/registry/roles/x/",
        "/registry/secrets/x/",
    ]
    .into_iter()
    .map(|prefix| tokio::spawn(write(keyloom.client(), prefix, Arc::clone(&stop))))
    .collect();

    let (mut taken, wanted) = (0, reloads());
    for number in 1.. {
        if taken >= wanted {
            break;
        }
        let before = refusals(&keyloom).await;
        fs::write(keyloom.topology_file(), plan.file(number)).unwrap();
        eventually("the file to be taken or refused", || async {
            let (changes, _) = status(&keyloom).await;
            let refused = refusals(&keyloom).await > before;
            if changes > taken || refused {
                Ok(())
            } else {
                Err(changes)
            }
        })
        .await;
        taken = status(&keyloom).await.0;
        assert!(
            writers.iter().all(|writer| !writer.is_finished()),
            "a call failed"
        );
        assert!(
            watches.iter().all(|(_, watch)| !watch.is_finished()),
            "a watch ended"
        );
    }
    let refused = refusals(&keyloom).await;

    stop.store(true, Ordering::Relaxed);
    let mut log = BTreeSet::new();
    for writer in writers {
        log.extend(writer.await.expect("no call fails"));
    }
    let client = keyloom.client();
    for end in ["/registry/pods/end", "/registry/roles/end"] {
        client.put(end, "").await;
    }
    let mut events = 0;
    for (prefix, watch) in watches {
        let seen = watch.await.expect("the watch goes on");
        events += seen.len();
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0), "in order, none twice");
        let first = seen.first().map_or(0, |(revision, ..)| *revision);
        let expected = log
            .iter()
            .filter(|(revision, key, _)| key.starts_with(prefix) && *revision >= first);
        let expected: Vec<_> = expected.cloned().collect();
        // The one over everything ends with the first of the two last writes.
        assert_eq!(seen, expected, "{prefix}");
    }
    let writes = log.len();
    let report =
        format!("{taken} changes taken, {refused} refused, {writes} writes, {events} events");
    writeln!(std::io::stderr(), "{report}").unwrap();
}

/// What an operator sees of a file that cannot be served, and of one that can again.
#[tokio::test]
async fn a_bad_file_is_refused_visibly_and_the_old_one_serves_on() {
    let stores = Etcd::start_all([Version::V36, Version::V36, Version::V36]).await;
    let plan = Plan {
        urls: stores.iter().map(Etcd::url).collect(),
    };
    let keyloom = Keyloom::start(&plan.file(2)).await;
    let client = keyloom.client();
    client.put("/registry/pods/x/p", "1").await;
    let hides = plan.file(0);
    for (file, word) in [("backends: 7", "backends"), (&*hides, "/registry/pods/x/p")] {
        fs::write(keyloom.topology_file(), file).unwrap();
        eventually("the refusal", || async {
            let (_, text) = keyloom.admin("/topology/status").await;
            if text.contains("refused: ") && text.contains(word) {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await;
        assert!(keyloom.log().contains(word), "{}", keyloom.log());
        assert!(client.get("/registry/pods/x/p").await.is_some());
        let (_, metrics) = keyloom.admin("/metrics").await;
        assert!(
            metrics.contains("keyloom_proxy_topology_refused 1"),
            "{metrics}"
        );
        let (_, served) = keyloom.admin("/topology").await;
        assert!(!served.contains("prefix: 'pods'"), "{served}");
    }
    // What stood in the way is gone.
    let delete = DeleteRangeRequest {
        key: "/registry/pods/x/p".into(),
        ..DeleteRangeRequest::default()
    };
    client.kv().delete_range(delete).await.unwrap();
    eventually("the file to be taken", || async {
        let (changes, refused) = status(&keyloom).await;
        if changes == 1 && !refused {
            Ok(())
        } else {
            Err(changes)
        }
    })
    .await;
    client.put("/registry/pods/x/p", "2").await;
    assert!(stores[2].client().get("/registry/pods/x/p").await.is_some());
    // What somebody writes past Keyloom is listed.
    stores[0].client().put("/registry/pods/x/stray", "3").await;
    let (code, strays) = keyloom.admin("/topology/strays").await;
    assert_eq!(code, 200);
    assert_eq!(strays, "default\t/registry/pods/x/stray\tidle\n");
}
