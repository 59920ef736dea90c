//! Lists over several stores: whole, in pages, at old revisions, with as few calls as there can be.

use crate::support::{Keyloom, keys, list, put, stores};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::RangeRequest;
use keyloom_testkit::{Step, model::ModelStore};

const STORES: usize = 4;

/// So many namespaces, dealt out to the stores in turn.
fn dealt(namespaces: usize) -> String {
    let mut text = "default: {endpoint: 'http://default.invalid:2379'}\nbackends:\n".to_owned();
    for store in 1..STORES {
        let mine = (0..namespaces).filter(|n| n % STORES == store);
        let mine: Vec<_> = mine.map(|n| format!("ns-{n:05}")).collect();
        text.push_str(&format!(
            "- name: s{store}\n  endpoint: http://s{store}.invalid:2379\n  namespace: {{namespaces: [{}]}}\n",
            mine.join(", ")
        ));
    }
    text
}

fn pod(namespace: usize, name: usize) -> String {
    format!("/registry/pods/ns-{namespace:05}/pod-{name}")
}

async fn filled(namespaces: usize, pods: usize) -> (Keyloom, Vec<ModelStore>, Vec<String>) {
    let stores = stores(STORES as u64);
    let keyloom = Keyloom::start(&dealt(namespaces), &stores).await;
    let mut expected = Vec::new();
    for namespace in 0..namespaces {
        for name in 0..pods {
            keyloom.put(&pod(namespace, name), "v").await.unwrap();
            expected.push(pod(namespace, name));
        }
    }
    (keyloom, stores, expected)
}

/// Calls so far, without those of the default store, which also gets the ledger's own.
fn calls(stores: &[ModelStore]) -> Vec<u64> {
    stores.iter().skip(1).map(ModelStore::all_calls).collect()
}

async fn pages(keyloom: &Keyloom, limit: i64) -> (Vec<String>, u64) {
    let mut request = RangeRequest {
        limit,
        ..list("/registry/pods/")
    };
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = keyloom.range(request.clone()).await.unwrap();
        pages += 1;
        found.extend(keys(&page));
        let left = usize::try_from(page.count).unwrap() - page.kvs.len();
        assert_eq!(page.more, left > 0);
        if !page.more {
            return (found, pages);
        }
        if request.revision == 0 {
            request.revision = page.header.unwrap().revision;
        }
        let last = &page.kvs.last().unwrap().key;
        request.key = Bytes::from([last, &b"\0"[..]].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn pages_hold_every_key_once_and_count_the_rest() {
    let (keyloom, stores, expected) = filled(40, 3).await;
    for limit in [1, 7, 50, 119, 120, 1000] {
        let before: u64 = calls(&stores).iter().sum();
        let (found, pages) = pages(&keyloom, limit).await;
        assert_eq!(found, expected, "limit {limit}");
        let calls = calls(&stores).iter().sum::<u64>() - before;
        let most = pages * (STORES as u64 - 1);
        assert!(calls <= most, "{calls} calls for {pages} pages");
    }
}

/// So many intervals that they cannot be counted one by one.
#[tokio::test(start_paused = true)]
async fn thousands_of_routes_make_one_scan_per_store() {
    let (keyloom, stores, expected) = filled(2000, 1).await;
    let before = calls(&stores);
    let whole = keyloom.range(list("/registry/pods/")).await.unwrap();
    assert_eq!(keys(&whole), expected);
    let counted = keyloom
        .range(RangeRequest {
            count_only: true,
            ..list("/registry/pods/")
        })
        .await
        .unwrap();
    assert_eq!((counted.count, counted.kvs.len()), (2000, 0));
    let after = calls(&stores);
    for (before, after) in before.iter().zip(after) {
        assert_eq!(after - before, 2);
    }
    assert_eq!(pages(&keyloom, 500).await.0, expected);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_list_stays_as_it_was_also_after_a_restart() {
    let (keyloom, stores, expected) = filled(8, 2).await;
    let at = keyloom
        .range(list("/registry/"))
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    keyloom.put(&pod(3, 9), "later").await.unwrap();
    keyloom.put(&pod(3, 0), "changed").await.unwrap();
    let then = RangeRequest {
        revision: at,
        ..list("/registry/")
    };
    let before = keyloom.range(then.clone()).await.unwrap();
    assert_eq!(keys(&before), expected);
    assert!(before.kvs.iter().all(|kv| kv.value == "v"));
    keyloom.stop().await;
    let keyloom = Keyloom::start(&dealt(8), &stores).await;
    assert_eq!(keyloom.range(then).await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_key_on_a_store_that_it_does_not_route_to_is_invisible() {
    let (keyloom, stores, expected) = filled(8, 1).await;
    // ns-00001 lives on the second store, and somebody put a key of it on the third.
    let Step::Put(stray) = put("/registry/pods/ns-00001/stray", "x") else {
        unreachable!()
    };
    stores[2].with(|etcd| etcd.put(&stray)).unwrap();
    // Something must reveal the store's new revision.
    keyloom.put(&pod(2, 0), "v").await.unwrap();
    let whole = keyloom.range(list("/registry/pods/")).await.unwrap();
    assert_eq!((keys(&whole), whole.count), (expected.clone(), 8));
    let first = keyloom
        .range(RangeRequest {
            limit: 2,
            ..list("/registry/pods/")
        })
        .await
        .unwrap();
    assert_eq!((first.count, first.more), (8, true));
    assert_eq!(pages(&keyloom, 1).await.0, expected);
}

#[tokio::test(start_paused = true)]
async fn keyloom_s_own_keys_are_neither_seen_nor_written() {
    let (keyloom, stores, _) = filled(4, 1).await;
    let held = stores[0].with(|etcd| etcd.range(&list("/_keyloom/")).unwrap().count);
    assert!(held > 0, "the ledger is in the default store");
    let seen = keyloom.range(list("/_keyloom/")).await.unwrap();
    assert_eq!((seen.count, seen.kvs.len()), (0, 0));
    let all = keyloom.range(list("")).await.unwrap();
    assert_eq!(all.count, 4);
    let refused = keyloom.put("/_keyloom/ledger/head", "x").await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: permission denied");
}
