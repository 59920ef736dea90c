//! Streams: raw messages both ways.
//!
//! A stream is open once its request is on its way; etcd sends no headers before its first
//! message, so that waiting for them would wait for the caller's own first request. An endpoint
//! that cannot be reached is passed over, whatever the call; what fails later is the answers' last
//! item.

use std::{convert::Infallible, future::poll_fn, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use h2::{Reason, SendStream, client::ResponseFuture};
use keyloom_etcd_api::{
    Rpc,
    framing::{Pieces, framed},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    answer::Answer,
    endpoint::{Extra, setback},
    fault::Failure,
    session::Pass,
    slot::Link,
    store::{Core, answered, learn},
};
use keyloom_store::{Answers, CallError, Lane, Requests};

pub(super) async fn open(
    core: Arc<Core>,
    rpc: Rpc,
    requests: Requests,
) -> Result<Answers, CallError> {
    core.admit()
        .map_err(|cause| CallError::NotSent(cause.as_ref().to_owned()))?;
    let deadline = Instant::now() + core.limits.timeout;
    let opened = timeout_at(deadline, async {
        let pass = pass(&core, deadline).await?;
        let (place, link) = connected(&core, rpc).await?;
        Ok((pass, place, link))
    });
    let (pass, place, link) = opened.await.unwrap_or_else(|_| {
        Err(CallError::NotSent(format!(
            "store {}: no connection in time",
            core.name
        )))
    })?;
    let reading = Reading::begin(core, rpc, requests, (pass, place, link))?;
    let answers = stream::unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        match reading.next().await {
            Ok(None) => None,
            Ok(Some(message)) => Some((Ok(message), Some(reading))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(answers.fuse().boxed())
}

/// A token that was fetched for this stream: etcd ends streams whose token has run out in ways of
/// their own, and its own client fetches one per stream too.
async fn pass(core: &Arc<Core>, deadline: Instant) -> Result<Pass, CallError> {
    match &core.session {
        None => Ok(Pass::default()),
        Some(session) => session.renewed(core, &session.newest(), deadline).await,
    }
}

/// A connection to the first endpoint that has one. What may carry gigabytes keeps off the
/// watches' connections.
async fn connected(core: &Arc<Core>, rpc: Rpc) -> Result<(usize, Link), CallError> {
    let lane = match rpc {
        Rpc::Snapshot | Rpc::RangeStream => Lane::Bulk,
        _ => Lane::Watch,
    };
    let mut tour = core.tour();
    while let Some((place, endpoint)) = core.next_of(&mut tour, lane) {
        match endpoint.link(lane).await {
            Ok(link) => return Ok((place, link)),
            Err(setback) => drop(learn(core, endpoint, setback)),
        }
    }
    Err(core.unreachable())
}

/// A stream's answers, as far as they have come.
struct Reading {
    core: Arc<Core>,
    /// The endpoint's.
    place: usize,
    link: Link,
    state: StreamState,
    /// Dropped with the rest, which ends the request too.
    _wanted: oneshot::Sender<Infallible>,
}

enum StreamState {
    /// No headers yet.
    Opening(ResponseFuture),
    Open(Answer),
}

impl Reading {
    /// Puts the request on its way.
    fn begin(
        core: Arc<Core>,
        rpc: Rpc,
        requests: Requests,
        (pass, place, mut link): (Pass, usize, Link),
    ) -> Result<Self, CallError> {
        let endpoint = core
            .endpoints
            .get(place)
            .ok_or_else(|| core.unreachable())?;
        let (wanted, unwanted) = oneshot::channel();
        let extra = Extra {
            token: pass.token.as_ref(),
            // A watch on a member that is cut off would be silent for ever.
            needs_leader: rpc == Rpc::Watch,
        };
        let sent = link
            .sender
            .send_request(endpoint.request(rpc, extra), false);
        let (response, body) = sent.map_err(|error| {
            let setback = setback(&link, Failure::not_taken(&error));
            CallError::from(learn(&core, endpoint, setback))
        })?;
        tokio::spawn(say(requests, body, unwanted));
        Ok(Self {
            place,
            link,
            state: StreamState::Opening(response),
            _wanted: wanted,
            core,
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let message = self.message().await;
        let message = message.map_err(|failure| self.failed(failure))?;
        Ok(message.map(Pieces::into_bytes))
    }

    async fn message(&mut self) -> Result<Option<Pieces>, Failure> {
        if let StreamState::Opening(response) = &mut self.state {
            let response = response.await;
            let answer = Answer::of(response.map_err(|error| Failure::of_send(&error))?)?;
            if let Some(endpoint) = self.core.endpoints.get(self.place) {
                answered(&self.core, endpoint);
            }
            self.state = StreamState::Open(answer);
        }
        match &mut self.state {
            StreamState::Open(answer) => answer.next().await,
            StreamState::Opening(_) => Ok(None),
        }
    }

    fn failed(&self, failure: Failure) -> CallError {
        let setback = setback(&self.link, failure);
        match self.core.endpoints.get(self.place) {
            Some(endpoint) => learn(&self.core, endpoint, setback).into(),
            None => setback.fault.into(),
        }
    }
}

/// Sends the requests, until there are no more or nobody wants the answers: a stream that nobody
/// reads would otherwise stay open for as long as its requests do.
async fn say(
    mut requests: Requests,
    mut body: SendStream<Bytes>,
    unwanted: oneshot::Receiver<Infallible>,
) {
    let told = tokio::select! {
        biased;
        _ = unwanted => None,
        told = say_all(&mut requests, &mut body) => told,
    };
    match told {
        // The end of the requests would end no watch.
        None => body.send_reset(Reason::CANCEL),
        Some(()) => drop(body.send_data(Bytes::new(), true)),
    }
}

/// `None` where the stream took no more.
async fn say_all(requests: &mut Requests, body: &mut SendStream<Bytes>) -> Option<()> {
    loop {
        // No request is taken before there is room for it.
        body.reserve_capacity(1);
        while body.capacity() == 0 {
            poll_fn(|context| body.poll_capacity(context)).await?.ok()?;
        }
        let request = tokio::select! {
            biased;
            _ = poll_fn(|context| body.poll_reset(context)) => return None,
            request = requests.next() => request,
        };
        match request {
            None => return Some(()),
            Some(request) => body.send_data(framed(&request), false).ok()?,
        }
    }
}
