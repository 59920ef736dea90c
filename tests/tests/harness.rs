//! The harness itself: programs start, stop, come back, and are told apart.

use keyloom_etcd_api::etcdserverpb::StatusResponse;
use keyloom_tests::{Etcd, Version};

#[tokio::test]
async fn an_etcd_comes_back_with_its_data_after_a_crash() {
    for version in [Version::V34, Version::V36] {
        let mut etcd = Etcd::start(version).await;
        let client = etcd.client();
        client.put("key", "value").await;
        let before = client.hash().await;
        etcd.restart().await;
        assert_eq!(client.get("key").await.expect("the key").value, "value");
        let after = client.hash().await;
        assert_eq!(
            (after.hash, after.compact_revision),
            (before.hash, before.compact_revision)
        );
    }
}

#[tokio::test]
async fn an_etcd_on_other_data_is_another_cluster_or_an_earlier_state() {
    let mut etcd = Etcd::start(Version::V36).await;
    let client = etcd.client();
    let cluster = |status: StatusResponse| status.header.expect("a header").cluster_id;
    client.put("key", "early").await;
    let first = cluster(client.status().await);

    etcd.kill().await;
    let backup = etcd.copy_data();
    etcd.restart().await;
    client.put("key", "late").await;

    etcd.restart_on(Some(backup)).await;
    assert_eq!(client.get("key").await.expect("the key").value, "early");
    assert_eq!(cluster(client.status().await), first);

    etcd.restart_on(None).await;
    assert_eq!(client.get("key").await, None);
    assert_ne!(cluster(client.status().await), first);
}

#[tokio::test]
async fn etcds_count_their_calls() {
    let etcds = Etcd::start_all([Version::V34, Version::V36]).await;
    for etcd in &etcds {
        let client = etcd.client();
        let before = etcd.metrics().await.handled("Range");
        for _ in 0..5 {
            client.get("key").await;
        }
        assert_eq!(etcd.metrics().await.handled("Range") - before, 5);
    }
}
