//! What must be there before a round, and what is taken away after a run.

use std::{collections::HashMap, ops::Range};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keyloom_etcd_api::etcdserverpb::RangeResponse;
use prost::Message as _;

use super::{Shape, Workload};
use crate::{
    connection::Connection,
    keyspace::{Keyspace, Resource, end_of, value},
    request::Request,
};

/// Writes under way at once.
const AT_ONCE: usize = 32;

/// Sees to it that the keyspace is what the scripts expect.
pub(crate) async fn prepare(
    workload: Workload,
    shape: Shape,
    clients: usize,
    connection: &Connection,
) -> Result<()> {
    let space = shape.keyspace;
    if workload.lists() {
        lists(space, connection).await.context("preparing lists")?;
    }
    if matches!(
        workload,
        Workload::Get
            | Workload::Update
            | Workload::Put
            | Workload::Mix
            | Workload::Cluster
            | Workload::Delete
    ) {
        singles(space, clients, connection)
            .await
            .context("preparing single keys")?;
    }
    Ok(())
}

/// Takes away what runs wrote.
pub(crate) async fn clear(namespaces: usize, connection: &Connection) -> Result<()> {
    for resource in [
        Resource::Singles,
        Resource::Lists,
        Resource::Watched,
        Resource::Events,
    ] {
        for number in 0..namespaces {
            clear_namespace(resource, number, connection).await?;
        }
    }
    Ok(())
}

async fn clear_namespace(resource: Resource, number: usize, connection: &Connection) -> Result<()> {
    let prefix = resource.namespace(number);
    let request = Request::delete_range(prefix.clone().into(), end_of(&prefix));
    connection.unary(request.rpc, request.frame).await?;
    Ok(())
}

async fn lists(space: Keyspace, connection: &Connection) -> Result<()> {
    for number in 0..space.namespaces {
        let keys: Vec<_> = (0..space.objects)
            .map(|place| space.object(number, place))
            .collect();
        let there = listed(Resource::Lists.namespace(number), connection).await?;
        let as_expected = there.kvs.len() == keys.len()
            && there
                .kvs
                .iter()
                .zip(&keys)
                .all(|(kv, key)| kv.key == *key && kv.value == value(key, space.object_size));
        if !as_expected {
            clear_namespace(Resource::Lists, number, connection).await?;
            write(keys, space.object_size, connection).await?;
        }
    }
    Ok(())
}

/// The clients' keys are there. Others may be left by a round with more clients; only those that
/// scripts create may not be: an earlier run may have been cut off.
async fn singles(space: Keyspace, clients: usize, connection: &Connection) -> Result<()> {
    let mut there = HashMap::new();
    for number in 0..space.namespaces {
        let listed = listed(Resource::Singles.namespace(number), connection).await?;
        there.extend(listed.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
    }
    let keys = |numbers: Range<usize>| {
        (0..clients).flat_map(move |client| {
            let key = move |number| space.single(client, number);
            numbers.clone().map(key)
        })
    };
    let missing = keys(0..space.keys).filter(|key| {
        let there = there.get(key);
        there.is_none_or(|kv| kv.value != value(key, space.value_size))
    });
    write(missing.collect(), space.value_size, connection).await?;
    for key in keys(space.keys..2 * space.keys) {
        if let Some(kv) = there.get(&key) {
            let delete = Request::delete(&key, kv.mod_revision);
            connection.unary(delete.rpc, delete.frame).await?;
        }
    }
    Ok(())
}

async fn listed(prefix: String, connection: &Connection) -> Result<RangeResponse> {
    let end = end_of(&prefix);
    let request = Request::page(prefix.into(), end, 0, 0);
    let answer = connection.unary(request.rpc, request.frame).await?;
    let answer = RangeResponse::decode(answer)?;
    ensure!(!answer.more, "a list without a limit is not whole");
    Ok(answer)
}

async fn write(keys: Vec<Bytes>, size: usize, connection: &Connection) -> Result<()> {
    let puts = keys.into_iter().map(|key| async move {
        let put = Request::put(&key, &value(&key, size));
        connection.unary(put.rpc, put.frame).await
    });
    stream::iter(puts)
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
}
