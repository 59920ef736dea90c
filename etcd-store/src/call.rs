//! The way of a unary call: admission, deadline, token, and the round of the endpoints.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderValue, header::AUTHORIZATION};
use keyloom_etcd_api::Metadata;
use parking_lot::Mutex;
use tokio::{
    sync::SemaphorePermit,
    time::{Duration, Instant, timeout_at},
};
use tracing::Span;

use super::{
    endpoint::{Extra, Outgoing, TOKEN},
    fault::Fault,
    health::EndpointState,
    prober, refusal,
    session::Session,
    store::{Core, answered, learn, trouble},
};
use keyloom_store::{Answer, Call, CallError};

/// An endpoint that leaves a call waiting for this long until its end is looked after: its
/// caller's patience alone says little about the endpoint.
const SUSPICIOUS_WAIT: Duration = Duration::from_secs(1);

/// How far a call got.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Too many others are under way.
    Waiting,
    /// For a token.
    Preparing,
    /// At this endpoint, and nothing has left yet.
    Connecting(usize),
    /// The request may have reached this endpoint.
    Sent(usize),
}

/// Makes a unary call, and counts it.
pub(super) async fn call(core: &Arc<Core>, call: Call) -> Result<Answer, CallError> {
    let started = Instant::now();
    let under_way = core.metrics.under_way();
    let limit = started + core.limits.timeout;
    let deadline = call
        .deadline
        .map_or(limit, |deadline| Instant::from_std(deadline).min(limit));
    let stage = Mutex::new(Stage::Waiting);
    let result = timeout_at(deadline, admitted(core, &call, deadline, &stage)).await;
    let result = result.unwrap_or_else(|_| {
        let reached = *stage.lock();
        Err(expired(core, reached, started.elapsed(), deadline == limit))
    });
    core.metrics.called(call.rpc, &result, started.elapsed());
    drop(under_way);
    result
}

async fn admitted(
    core: &Arc<Core>,
    call: &Call,
    deadline: Instant,
    stage: &Mutex<Stage>,
) -> Result<Answer, CallError> {
    let admit = || {
        core.admit().map_err(|cause| {
            // There is a prober, unless its task was lost.
            prober::look_after(core);
            CallError::NotSent(cause.as_ref().to_owned())
        })
    };
    admit()?;
    let _permit = permit(core).await?;
    // The wait may have been long.
    admit()?;
    *stage.lock() = Stage::Preparing;
    with_token(core, call, deadline, stage).await
}

/// A place among the calls under way, waited for if as many again do not wait already.
async fn permit(core: &Core) -> Result<SemaphorePermit<'_>, CallError> {
    if let Ok(permit) = core.permits.try_acquire() {
        return Ok(permit);
    }
    let place = Place::take(&core.waiting);
    if place.ahead >= core.limits.max_in_flight {
        return Err(too_many(core));
    }
    core.permits.acquire().await.map_err(|_| too_many(core))
}

/// A place in the queue, given up with the value.
struct Place<'a> {
    queue: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Place<'a> {
    fn take(queue: &'a AtomicUsize) -> Self {
        let ahead = queue.fetch_add(1, Ordering::Relaxed);
        Self { queue, ahead }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many(core: &Core) -> CallError {
    let limit = core.limits.max_in_flight;
    CallError::NotSent(format!(
        "store {}: too many calls in flight ({limit})",
        core.name
    ))
}

/// What a call whose time is up is told, and what is learned from it.
fn expired(core: &Arc<Core>, stage: Stage, waited: Duration, own_limit: bool) -> CallError {
    let in_time = |what| CallError::NotSent(format!("store {}: no {what} in time", core.name));
    match stage {
        Stage::Waiting => too_many(core),
        Stage::Preparing => in_time("token"),
        Stage::Connecting(place) => {
            suspect(core, place, waited, own_limit);
            in_time("connection")
        }
        Stage::Sent(place) => {
            suspect(core, place, waited, own_limit);
            CallError::TimedOut
        }
    }
}

/// An endpoint kept a call waiting to its end. That counts as a failure of the store only where
/// the end was the store's own limit; otherwise a probe says more.
fn suspect(core: &Arc<Core>, place: usize, waited: Duration, own_limit: bool) {
    let Some(endpoint) = core.endpoints.get(place) else {
        return;
    };
    let reachable = endpoint.health.state() != EndpointState::Unreachable;
    if waited < SUSPICIOUS_WAIT || !reachable {
        return;
    }
    let cause = format!("no answer within {} ms", waited.as_millis());
    if own_limit {
        trouble(core, endpoint, EndpointState::Unwell, &cause);
    } else {
        let cause = format!("{}: {cause}", endpoint.connector.address);
        endpoint.health.failed(EndpointState::Unwell, cause.into());
        prober::look_after(core);
    }
}

/// Sends the call with the session's token, and once more with a new one where the store refuses
/// the token: it has not executed the call then, not even a write.
async fn with_token(
    core: &Arc<Core>,
    call: &Call,
    deadline: Instant,
    stage: &Mutex<Stage>,
) -> Result<Answer, CallError> {
    // A caller that shows its own token is judged by that.
    let session = core.session.as_ref();
    match session.filter(|_| !has_token(&call.metadata)) {
        None => round(core, outgoing(call, deadline, None), call.idempotent, stage).await,
        // Apart, so that the calls of other stores do not carry its room about.
        Some(session) => Box::pin(with_session(core, session, call, deadline, stage)).await,
    }
}

async fn with_session(
    core: &Arc<Core>,
    session: &Session,
    call: &Call,
    deadline: Instant,
    stage: &Mutex<Stage>,
) -> Result<Answer, CallError> {
    let pass = session.pass(core, deadline).await?;
    let first = outgoing(call, deadline, pass.token.as_ref());
    match round(core, first, call.idempotent, stage).await {
        Err(CallError::Refused(status)) if refusal::asks_for_a_token(&status) => {
            *stage.lock() = Stage::Preparing;
            let pass = session.renewed(core, &pass, deadline).await?;
            let second = outgoing(call, deadline, pass.token.as_ref());
            round(core, second, call.idempotent, stage).await
        }
        other => other,
    }
}

/// Whether a caller logs in by itself, as etcd looks for it (`AuthInfoFromCtx` in
/// `server/auth/store.go`).
pub(super) fn has_token(metadata: &Metadata) -> bool {
    metadata.get(&TOKEN).is_some() || metadata.get(&AUTHORIZATION).is_some()
}

fn outgoing<'a>(call: &'a Call, deadline: Instant, token: Option<&'a HeaderValue>) -> Outgoing<'a> {
    Outgoing {
        rpc: call.rpc,
        message: &call.message,
        lane: call.lane,
        deadline,
        extra: Extra {
            token,
            needs_leader: false,
            metadata: Some(&call.metadata),
        },
    }
}

/// Asks one endpoint after the other, for as long as that is safe and may help.
pub(super) async fn round(
    core: &Arc<Core>,
    call: Outgoing<'_>,
    idempotent: bool,
    stage: &Mutex<Stage>,
) -> Result<Answer, CallError> {
    let mut tour = core.tour();
    let mut last = None;
    let mut attempts = 0_u64;
    loop {
        let Some((place, endpoint)) = core.next_of(&mut tour, call.lane) else {
            match last {
                None => return Err(core.unreachable()),
                // A refusal is an answer: asking the same endpoints again is the caller's matter.
                Some(fault @ Fault::Refused(_)) => return Err(fault.into()),
                Some(fault) if !tour.once_more() => return Err(fault.into()),
                Some(_) => continue,
            }
        };
        *stage.lock() = Stage::Connecting(place);
        attempts += 1;
        // Most calls have one: they do not pay for a look at their span.
        if attempts > 1 {
            Span::current().record("keyloom.attempts", attempts);
        }
        let answer = endpoint
            .call(call, || *stage.lock() = Stage::Sent(place))
            .await;
        let fault = match answer {
            Ok(message) => {
                answered(core, endpoint);
                return Ok(message);
            }
            Err(setback) => learn(core, endpoint, setback),
        };
        if !fault.may_be_tried_again(idempotent) && !fault.names_the_wrong_member(call.rpc) {
            return Err(fault.into());
        }
        last = Some(fault);
    }
}
