//! Makes full what is bounded, so that what still grows afterwards is a leak: the events that a SQLite
//! file keeps for watches (32 MiB), the keys that came or went (50,000), and what an allocator needs
//! beside both.

use futures_util::future::join_all;
use keyloom_etcd_api::etcdserverpb::{DeleteRangeRequest, PutRequest};

use crate::{Client, poll::eventually};

/// Writers that never wait for each other.
const WRITERS: usize = 64;

/// Creates and deletes so many objects of a folder, each under a name of its own.
pub async fn fill(client: &Client, folder: &str, objects: usize) {
    let each = objects / WRITERS;
    join_all((0..WRITERS).map(|writer| async move {
        for object in 0..each {
            come_and_go(client, format!("{folder}fill-{writer}-{object}")).await;
        }
    }))
    .await;
}

async fn come_and_go(client: &Client, key: String) {
    let put = PutRequest {
        key: key.clone().into(),
        value: vec![7; 29].into(),
        ..PutRequest::default()
    };
    let delete = DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    };
    let write = || async { client.kv().put(put.clone()).await };
    eventually("a write", write).await;
    let delete = || async { client.kv().delete_range(delete.clone()).await };
    eventually("a deletion", delete).await;
}
