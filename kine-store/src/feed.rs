//! The one watch that others may open: everything, from a revision on.
//!
//! Nothing is handed on before our own watch has delivered it too, so that a client of the store
//! never sees an event above the place at which it answers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::{
    etcdserverpb::{WatchRequest, WatchResponse, watch_request::RequestUnion},
    mvccpb::{Event, KeyValue, event::EventType},
};
use prost::Message as _;
use tokio::time::{Duration, Instant};

use super::{Asked, Core, read::as_etcd};
use keyloom_store::{Answers, CallError, Lane, Requests};

/// How long our own watch may be behind.
const PATIENCE: Duration = Duration::from_secs(30);

const EVERYTHING: &[u8] = b"\0";

pub(super) async fn open(core: Arc<Core>, mut requests: Requests) -> Result<Answers, CallError> {
    let first = requests.next().await;
    let request = first.and_then(|first| WatchRequest::decode(first).ok());
    let Some(RequestUnion::CreateRequest(create)) = request.and_then(|first| first.request_union)
    else {
        return Err(core.cannot("be watched before it is said what"));
    };
    if create.key != EVERYTHING || create.range_end != EVERYTHING || create.start_revision < 1 {
        return Err(core.cannot("be watched but as a whole and from a revision on"));
    }
    let asked = Asked {
        lane: Lane::Watch,
        until: Instant::now() + PATIENCE,
    };
    // Which kine it is must be known before anything is said of it.
    core.place(asked).await?;
    let answers = core.watch_from(create.start_revision).await?;
    let held_open = stream::once(async move {
        // The watch is open as long as its requests are not at an end.
        while requests.next().await.is_some() {}
    });
    let told = answers.filter_map(move |answer| {
        let core = Arc::clone(&core);
        async move { told(&core, answer).await.transpose() }
    });
    let end = held_open.filter_map(|()| std::future::ready(None));
    Ok(until_either(told, end).boxed())
}

/// Answers, until the requests end.
fn until_either(
    told: impl futures_util::Stream<Item = Result<Bytes, CallError>> + Send + 'static,
    end: impl futures_util::Stream<Item = Result<Bytes, CallError>> + Send + 'static,
) -> impl futures_util::Stream<Item = Result<Bytes, CallError>> + Send + 'static {
    let ended = async move {
        let mut end = std::pin::pin!(end);
        while end.next().await.is_some() {}
    };
    told.take_until(ended)
}

/// An answer as an etcd would give it; `None` where it says nothing.
async fn told(
    core: &Arc<Core>,
    answer: Result<Bytes, CallError>,
) -> Result<Option<Bytes>, CallError> {
    let mut answer = WatchResponse::decode(answer?).map_err(|error| {
        CallError::Unknown(format!("store {}: unreadable answer: {error}", core.name))
    })?;
    let last = answer.events.last().and_then(|event| event.kv.as_ref());
    let last = last.map_or(0, |kv| kv.mod_revision);
    // Progress: its numbers are not believed.
    if last == 0 && !answer.created && !answer.canceled {
        return Ok(None);
    }
    let place = core.reach(last.max(1), Instant::now() + PATIENCE).await?;
    for event in &mut answer.events {
        event_as_etcd(event);
    }
    let mut header = core.header_at(place);
    header.revision = last;
    answer.header = Some(header);
    answer.watch_id = 0;
    Ok(Some(answer.encode_to_vec().into()))
}

fn event_as_etcd(event: &mut Event) {
    let deletes = event.r#type() == EventType::Delete;
    if let Some(kv) = &mut event.kv {
        if deletes {
            *kv = KeyValue {
                key: std::mem::take(&mut kv.key),
                mod_revision: kv.mod_revision,
                ..KeyValue::default()
            };
        } else {
            as_etcd(kv);
        }
    }
    if let Some(kv) = &mut event.prev_kv {
        as_etcd(kv);
    }
}
