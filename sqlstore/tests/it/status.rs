//! What the calls about the store itself say.

use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{StatusRequest, StatusResponse},
};

use crate::support::{Place, call, put};

#[tokio::test]
async fn status_says_what_is_in_use_and_allowed() {
    let mut place = Place::new();
    place.options.max_pages = 5_000;
    let store = place.open().await;
    let value = "v".repeat(50_000);
    for number in 0..20 {
        put(&store, &format!("k{number}"), &value).await.unwrap();
    }
    let status: StatusResponse = call(&store, Rpc::Status, &StatusRequest {}).await.unwrap();
    assert!(status.db_size > 1_000_000, "{status:?}");
    assert!(status.db_size_in_use <= status.db_size, "{status:?}");
    assert_eq!(status.db_size_quota, 5_000 * 4_096);
    store.close().await;
}
