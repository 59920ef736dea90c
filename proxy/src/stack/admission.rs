//! Turns calls away that are too many: of one caller, and of all of them.
//!
//! Bounds: [`AdmissionLimits`]. What is over them is refused at once with etcd's `etcdserver: too
//! many requests`, before anything of its body is read, and counted. Pages over plain HTTP pass: a
//! probe must be answered just when there is much to do.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::Response;
use keyloom_etcd_api::{EtcdError, Status};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{
    call::{Call, CallKind},
    reply,
};
use crate::caller::Peer;

/// How many calls may be under way. A caller is a certificate's name, or else an address.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Unary calls of all callers.
    pub calls: usize,
    /// Unary calls of one caller.
    pub calls_per_caller: usize,
    /// Streams of all callers: watches and what renews leases.
    pub streams: usize,
    /// Streams of one caller.
    pub streams_per_caller: usize,
}

impl Default for AdmissionLimits {
    /// Above what etcd itself takes: it refuses writes once 5,000 are under way
    /// (`maxGapBetweenApplyAndCommitIndex`).
    fn default() -> Self {
        Self {
            calls: 16_384,
            calls_per_caller: 8_192,
            streams: 262_144,
            streams_per_caller: 65_536,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    calls: Gauge,
    streams: Gauge,
    refused: Family<RefusedLabels, Counter>,
    /// Of the callers that have a connection: no more than there are connections.
    callers: Mutex<HashMap<String, Connected>>,
}

/// A caller that has connections.
#[derive(Debug, Default)]
struct Connected {
    under_way: Arc<CallCounts>,
    connections: usize,
}

/// What one caller has under way.
#[derive(Debug, Default)]
struct CallCounts {
    calls: AtomicUsize,
    streams: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    limit: Limit,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Limit {
    Calls,
    CallsPerCaller,
    Streams,
    StreamsPerCaller,
}

impl EncodeLabelValue for Limit {
    /// As the flags name them.
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Calls => "max-calls",
            Self::CallsPerCaller => "max-calls-per-caller",
            Self::Streams => "max-streams",
            Self::StreamsPerCaller => "max-streams-per-caller",
        };
        name.encode(encoder)
    }
}

impl Admission {
    pub(crate) fn register(limits: AdmissionLimits, registry: &mut Registry) -> Arc<Self> {
        let admission = Self {
            limits,
            calls: Gauge::default(),
            streams: Gauge::default(),
            refused: Family::default(),
            callers: Mutex::default(),
        };
        registry.register(
            "keyloom_proxy_calls_in_flight",
            "Unary calls that are being answered",
            admission.calls.clone(),
        );
        registry.register(
            "keyloom_proxy_streams_open",
            "Streams that are open: watches, lease keep-alives and others",
            admission.streams.clone(),
        );
        registry.register(
            "keyloom_proxy_calls_refused",
            "Calls refused with \"too many requests\", by the limit that was reached",
            admission.refused.clone(),
        );
        Arc::new(admission)
    }

    /// The layer of one connection.
    pub(super) fn layer(self: &Arc<Self>, peer: &Peer) -> Admit {
        let identity = peer.identity();
        let mut callers = self.callers.lock();
        let connected = callers.entry(identity.clone()).or_default();
        connected.connections += 1;
        let caller = Arc::clone(&connected.under_way);
        drop(callers);
        Admit {
            seat: Arc::new(Seat {
                admission: Arc::clone(self),
                identity,
                caller,
            }),
        }
    }
}

/// A connection's account: its caller's, and that of all.
#[derive(Debug)]
struct Seat {
    admission: Arc<Admission>,
    identity: String,
    caller: Arc<CallCounts>,
}

impl Seat {
    fn admit(self: &Arc<Self>, is_stream: bool) -> Result<InFlight, Limit> {
        let limits = &self.admission.limits;
        let (own, all) = self.counts(is_stream);
        let (most_own, most, own_limit, limit) = if is_stream {
            let (own, all) = (limits.streams_per_caller, limits.streams);
            (own, all, Limit::StreamsPerCaller, Limit::Streams)
        } else {
            let (own, all) = (limits.calls_per_caller, limits.calls);
            (own, all, Limit::CallsPerCaller, Limit::Calls)
        };
        let own_before = own.fetch_add(1, Ordering::Relaxed);
        let before = usize::try_from(all.inc()).unwrap_or_default();
        // From here on, what was counted is given back by its drop.
        let permit = InFlight {
            seat: Arc::clone(self),
            is_stream,
        };
        if own_before >= most_own {
            return Err(own_limit);
        }
        if before >= most {
            return Err(limit);
        }
        Ok(permit)
    }

    fn counts(&self, is_stream: bool) -> (&AtomicUsize, &Gauge) {
        if is_stream {
            (&self.caller.streams, &self.admission.streams)
        } else {
            (&self.caller.calls, &self.admission.calls)
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut callers = self.admission.callers.lock();
        if let Entry::Occupied(mut connected) = callers.entry(std::mem::take(&mut self.identity)) {
            connected.get_mut().connections -= 1;
            if connected.get().connections == 0 {
                connected.remove();
            }
        }
    }
}

/// The right to be under way, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    seat: Arc<Seat>,
    is_stream: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (own, all) = self.seat.counts(self.is_stream);
        own.fetch_sub(1, Ordering::Relaxed);
        all.dec();
    }
}

#[derive(Clone, Debug)]
pub(super) struct Admit {
    seat: Arc<Seat>,
}

impl<S> Layer<S> for Admit {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        let seat = Arc::clone(&self.seat);
        Admitted { inner, seat }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Admitted<S> {
    inner: S,
    seat: Arc<Seat>,
}

impl<S> Service<Call> for Admitted<S>
where
    S: Service<Call, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        if call.kind != CallKind::Page {
            match self.seat.admit(call.kind.is_stream()) {
                Ok(permit) => call.permit = Some(permit),
                Err(limit) => {
                    let refused = RefusedLabels { limit };
                    self.seat.admission.refused.get_or_create(&refused).inc();
                    let status = Status::from(EtcdError::RequestTooManyRequests);
                    return Either::Left(ready(Ok(reply::refusal(&status))));
                }
            }
        }
        Either::Right(self.inner.call(call))
    }
}

#[cfg(test)]
mod tests {
    use keyloom_environment::Address;

    use super::*;

    fn seat(admission: &Arc<Admission>, host: &str) -> Arc<Seat> {
        let address = Address::Tcp {
            host: host.to_owned(),
            port: 1,
        };
        let peer = Peer {
            address: Some(address),
            ..Peer::default()
        };
        admission.layer(&peer).seat
    }

    fn admission() -> Arc<Admission> {
        let limits = AdmissionLimits {
            calls: 3,
            calls_per_caller: 2,
            streams: 1,
            streams_per_caller: 5,
        };
        Admission::register(limits, &mut Registry::default())
    }

    #[test]
    fn a_caller_has_a_share_and_all_have_a_limit() {
        let admission = admission();
        let (a, a_again) = (seat(&admission, "a"), seat(&admission, "a"));
        let (b, c) = (seat(&admission, "b"), seat(&admission, "c"));
        let first = a.admit(false).unwrap();
        let _second = a_again.admit(false).unwrap();
        assert_eq!(a.admit(false).unwrap_err(), Limit::CallsPerCaller);
        let _third = b.admit(false).unwrap();
        assert_eq!(c.admit(false).unwrap_err(), Limit::Calls);
        // Streams are counted apart.
        let _stream = c.admit(true).unwrap();
        assert_eq!(c.admit(true).unwrap_err(), Limit::Streams);
        // What was refused holds nothing; what has ended gives its place back.
        assert_eq!((admission.calls.get(), admission.streams.get()), (3, 1));
        drop(first);
        drop(c.admit(false).unwrap());
        drop(a.admit(false).unwrap());
        assert_eq!(admission.calls.get(), 2);
    }

    #[test]
    fn callers_that_have_gone_are_forgotten() {
        let admission = admission();
        let (a, a_again) = (seat(&admission, "a"), seat(&admission, "a"));
        let b = seat(&admission, "b");
        assert_eq!(admission.callers.lock().len(), 2);
        let permit = b.admit(false).unwrap();
        drop(b);
        drop(a);
        assert_eq!(admission.callers.lock().len(), 2);
        drop(permit);
        drop(a_again);
        assert_eq!(admission.callers.lock().len(), 0);
    }
}
