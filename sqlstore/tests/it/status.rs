//! What the calls about the store itself say.

use std::fs;

use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{StatusRequest, StatusResponse},
};

use crate::support::{Place, call, put};

/// The log belongs to it: what was written is there first.
#[tokio::test]
async fn status_says_what_is_on_the_disk_in_use_and_allowed() {
    let mut place = Place::new();
    place.options.max_pages = 5_000;
    let store = place.open().await;
    let value = "v".repeat(50_000);
    for number in 0..20 {
        put(&store, &format!("k{number}"), &value).await.unwrap();
    }
    let size = |suffix: &str| {
        let path = format!("{}{suffix}", place.path().display());
        let length = fs::metadata(path).unwrap().len();
        i64::try_from(length).unwrap()
    };
    let status: StatusResponse = call(&store, Rpc::Status, &StatusRequest {}).await.unwrap();
    assert_eq!(status.db_size, size("") + size("-wal"));
    assert!(status.db_size > 1_000_000, "{status:?}");
    assert!(status.db_size_in_use <= status.db_size, "{status:?}");
    assert_eq!(status.db_size_quota, 5_000 * 4_096);
    store.close().await;
}
