//! Streaming calls: with one store through to it, message by message.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::uri::PathAndQuery;
use keyloom_etcd_api::{
    Metadata, Rpc, unknown_call,
    wire::{self, Message},
};
use keyloom_store::{OpenCall, Part, Requests};

use super::{
    Context, Services,
    forward::{unanswered, unreadable},
};
use crate::{
    failure::Failure,
    order::{Native, Order},
    snapshot::ServingSnapshot,
    telemetry,
};

/// What a streaming call answers.
pub(crate) struct StreamAnswer {
    /// What comes with the headers.
    pub(crate) metadata: Metadata,
    /// An error is the last item.
    pub(crate) parts: BoxStream<'static, Result<Part, Failure>>,
}

impl StreamAnswer {
    fn of(answers: BoxStream<'static, Result<Bytes, Failure>>) -> Self {
        Self {
            metadata: Metadata::default(),
            parts: answers.map(|answer| answer.map(Part::Message)).boxed(),
        }
    }
}

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
    ) -> Result<StreamAnswer, Failure> {
        let snapshot = self.snapshot.load_full();
        if let Order::Native = &snapshot.order {
            let path = rpc.path_and_query();
            return self.pass_stream(&snapshot, path, requests, context).await;
        }
        if context.needs_leader {
            context.until_may_leave(&snapshot.order).await?;
        }
        let unserved = Failure::Unimplemented(rpc.name());
        let answers = match rpc {
            Rpc::LeaseKeepAlive => self.keep_alives(requests),
            Rpc::Watch => match &self.runtime {
                Some(runtime) => self.watch(runtime, requests, context),
                None => return Err(unserved),
            },
            Rpc::Snapshot => return Err(one_by_one(&snapshot)),
            _ => return Err(unserved),
        };
        Ok(StreamAnswer::of(answers))
    }

    /// Answers a call that is none of etcd's known ones: one store may know it.
    ///
    /// # Errors
    /// [`Failure`], whose text and code are what the client gets.
    pub(crate) async fn unknown(
        &self,
        path: PathAndQuery,
        requests: Requests,
        context: Context,
    ) -> Result<StreamAnswer, Failure> {
        let snapshot = self.snapshot.load_full();
        match &snapshot.order {
            Order::Native => self.pass_stream(&snapshot, path, requests, context).await,
            Order::Merged(_) => Err(Failure::UnknownCall(unknown_call(path.path()))),
        }
    }

    /// With one store: messages go through both ways, with what travels beside them.
    async fn pass_stream(
        &self,
        snapshot: &ServingSnapshot,
        path: PathAndQuery,
        requests: Requests,
        context: Context,
    ) -> Result<StreamAnswer, Failure> {
        let member = snapshot.default_member().cloned();
        let member = member.ok_or_else(|| Failure::UnknownCall(unknown_call(path.path())))?;
        let kind = Rpc::from_path(path.path()).and_then(message_of);
        let span = telemetry::store_call(&member.name, path.path());
        let mut metadata = context.metadata;
        telemetry::hand_on(&span, &mut metadata);
        let call = OpenCall {
            path,
            metadata,
            requests,
            deadline: context.deadline.map(tokio::time::Instant::into_std),
        };
        let opened = telemetry::answered(span.clone(), member.store.open(call)).await;
        let opened = opened.map_err(|error| unanswered(&member, error))?;
        let identity = Arc::clone(&self.identity);
        let parts = opened.parts.map(move |part| {
            // The span ends with the stream.
            let part = part.inspect_err(|error| telemetry::record_error(&span, error));
            let part = part.map_err(|error| unanswered(&member, error))?;
            match (part, kind) {
                (Part::Message(message), Some(kind)) => {
                    let message = wire::rewrite_owned(kind, message, &mut Native(&identity));
                    let message = message.map_err(|error| unreadable(&member, error))?;
                    Ok(Part::Message(message))
                }
                // Nothing is known of it, so nothing of it is changed.
                (part, _) => Ok(part),
            }
        });
        Ok(StreamAnswer {
            metadata: opened.metadata,
            parts: parts.boxed(),
        })
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
        Rpc::RangeStream => Some(Message::RangeStreamResponse),
        _ => None,
    }
}
