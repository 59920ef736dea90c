//! Streaming calls: with one store through to it, message by message.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use keyloom_etcd_api::{
    Rpc,
    wire::{self, Message},
};
use keyloom_store::Requests;

use super::{Context, Services};
use crate::{
    failure::Failure,
    order::{Native, Order},
    snapshot::ServingSnapshot,
};

impl Services {
    /// Answers one streaming call.
    ///
    /// # Errors
    /// [`Failure`], whose text and code are what the client gets.
    pub(crate) async fn stream(
        self: &Arc<Self>,
        rpc: Rpc,
        requests: Requests,
        context: Context,
    ) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
        let unserved = Failure::Unimplemented(rpc.name());
        let snapshot = self.snapshot.load_full();
        if let Order::Merged(_) = &snapshot.order {
            if context.needs_leader {
                context.until_may_leave(&snapshot.order).await?;
            }
            return match rpc {
                Rpc::LeaseKeepAlive => Ok(self.keep_alives(requests)),
                Rpc::Watch => match &self.runtime {
                    Some(runtime) => Ok(self.watch(runtime, requests, context)),
                    None => Err(unserved),
                },
                Rpc::Snapshot => Err(one_by_one(&snapshot)),
                _ => Err(unserved),
            };
        }
        let (Order::Native, Some(kind), Some(member)) = (
            &snapshot.order,
            message_of(rpc),
            snapshot.default_member().cloned(),
        ) else {
            return Err(unserved);
        };
        let failed = |store: &str, error| Failure::Store {
            store: store.to_owned(),
            error,
        };
        let answers = member
            .store
            .stream(rpc, requests)
            .await
            .map_err(|error| failed(&member.name, error))?;
        let identity = Arc::clone(&self.identity);
        Ok(answers
            .map(move |answer| {
                let answer = answer.map_err(|error| failed(&member.name, error))?;
                wire::rewrite_owned(kind, answer, &mut Native(&identity)).map_err(|error| {
                    Failure::Nonsense {
                        store: member.name.clone(),
                        what: error.to_string(),
                    }
                })
            })
            .boxed())
    }
}

/// A snapshot is the file of one etcd: no file holds several.
fn one_by_one(snapshot: &ServingSnapshot) -> Failure {
    let names = snapshot
        .stores()
        .map(|member| format!("\"{}\"", member.name));
    Failure::OneByOne {
        stores: names.collect::<Vec<_>>().join(", "),
    }
}

fn message_of(rpc: Rpc) -> Option<Message> {
    match rpc {
        Rpc::Watch => Some(Message::WatchResponse),
        Rpc::LeaseKeepAlive => Some(Message::LeaseKeepAliveResponse),
        Rpc::Snapshot => Some(Message::SnapshotResponse),
        _ => None,
    }
}
