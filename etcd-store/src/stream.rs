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
use http::uri::PathAndQuery;
use keyloom_etcd_api::{
    Metadata, Rpc,
    framing::{Pieces, framed},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    answer::Answer,
    call::has_token,
    endpoint::{Extra, GRPC_TIMEOUT, setback},
    fault::Failure,
    session::Pass,
    slot::Link,
    store::{Core, answered, learn},
    timeout,
};
use keyloom_store::{Answers, CallError, Lane, OpenAnswer, OpenCall, Part, Requests};

/// What a stream is opened with.
struct Opening {
    path: PathAndQuery,
    metadata: Metadata,
    deadline: Option<std::time::Instant>,
    requests: Requests,
}

/// Opens a stream that Keyloom itself speaks.
pub(super) async fn open(
    core: Arc<Core>,
    rpc: Rpc,
    requests: Requests,
) -> Result<Answers, CallError> {
    let opening = Opening {
        path: rpc.path_and_query(),
        metadata: Metadata::default(),
        deadline: None,
        requests,
    };
    let reading = begun(core, opening).await?;
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

/// Makes a call by its path, whatever it means.
pub(super) async fn open_call(core: Arc<Core>, call: OpenCall) -> Result<OpenAnswer, CallError> {
    let deadline = call.deadline.map(Instant::from_std);
    let opening = Opening {
        path: call.path,
        metadata: call.metadata,
        deadline: call.deadline,
        requests: call.requests,
    };
    let answer = async {
        let mut reading = begun(core, opening).await?;
        let metadata = reading.head().await?;
        Ok((metadata, reading))
    };
    let (metadata, reading) = match deadline {
        None => answer.await?,
        Some(deadline) => timeout_at(deadline, answer)
            .await
            .unwrap_or(Err(CallError::TimedOut))?,
    };
    let parts = stream::unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(message)) => Some((Ok(Part::Message(message)), Some(reading))),
            Ok(None) => {
                let trailers = reading.trailers();
                (!trailers.is_empty()).then_some((Ok(Part::Trailers(trailers)), None))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    let parts = parts.fuse().boxed();
    Ok(OpenAnswer { metadata, parts })
}

/// Puts a stream on its way to an endpoint that has a connection.
async fn begun(core: Arc<Core>, opening: Opening) -> Result<Reading, CallError> {
    core.admit()
        .map_err(|cause| CallError::NotSent(cause.as_ref().to_owned()))?;
    let deadline = Instant::now() + core.limits.timeout;
    let opened = timeout_at(deadline, async {
        let pass = match has_token(&opening.metadata) {
            true => Pass::default(),
            false => pass(&core, deadline).await?,
        };
        let (place, link) = connected(&core, opening.path.path()).await?;
        Ok((pass, place, link))
    });
    let (pass, place, link) = opened.await.unwrap_or_else(|_| {
        Err(CallError::NotSent(format!(
            "store {}: no connection in time",
            core.name
        )))
    })?;
    Reading::begin(core, opening, (pass, place, link))
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
async fn connected(core: &Arc<Core>, path: &str) -> Result<(usize, Link), CallError> {
    let lane = match Rpc::from_path(path) {
        Some(Rpc::Watch | Rpc::LeaseKeepAlive) => Lane::Watch,
        _ => Lane::Bulk,
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
        opening: Opening,
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
            needs_leader: opening.path.path() == Rpc::Watch.path(),
            metadata: Some(&opening.metadata),
        };
        let mut request = endpoint.request(opening.path, extra);
        let left = opening.deadline.map(|deadline| {
            let deadline = Instant::from_std(deadline);
            deadline.saturating_duration_since(Instant::now())
        });
        if let Some(left) = left.and_then(timeout::header) {
            request.headers_mut().insert(GRPC_TIMEOUT, left);
        }
        let sent = link.sender.send_request(request, false);
        let (response, body) = sent.map_err(|error| {
            let setback = setback(&link, Failure::not_taken(&error));
            CallError::from(learn(&core, endpoint, setback))
        })?;
        tokio::spawn(say(opening.requests, body, unwanted));
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

    /// Waits for the headers, and gives what came with them.
    async fn head(&mut self) -> Result<Metadata, CallError> {
        let opened = self.opened().await.map(|answer| answer.metadata());
        opened.map_err(|failure| self.failed(failure))
    }

    /// What came with the end, once it has come.
    fn trailers(&self) -> Metadata {
        match &self.state {
            StreamState::Opening(_) => Metadata::default(),
            StreamState::Open(answer) => answer.trailers(),
        }
    }

    async fn message(&mut self) -> Result<Option<Pieces>, Failure> {
        self.opened().await?.next().await
    }

    async fn opened(&mut self) -> Result<&mut Answer, Failure> {
        if let StreamState::Opening(response) = &mut self.state {
            let response = response.await;
            let answer = Answer::of(response.map_err(|error| Failure::of_send(&error))?)?;
            if let Some(endpoint) = self.core.endpoints.get(self.place) {
                answered(&self.core, endpoint);
            }
            self.state = StreamState::Open(answer);
        }
        match &mut self.state {
            StreamState::Open(answer) => Ok(answer),
            StreamState::Opening(_) => Err(Failure::nonsense("no headers")),
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
