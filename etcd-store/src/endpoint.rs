//! One endpoint of a store: its connections, lane by lane, and one try of a call there.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use keyloom_etcd_api::{Metadata, Rpc, framing::framed};
use tokio::time::Instant;

use super::{
    answer,
    config::Connections,
    connector::Connector,
    fault::{Failure, Fate, Fault},
    health::{EndpointState, Health},
    slot::{Link, Slot},
    timeout,
};
use crate::metrics::StoreMetrics;
use keyloom_store::Lane;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("keyloom/", env!("CARGO_PKG_VERSION")));
pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `rpctypes.TokenFieldNameGRPC`.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("token");
/// `rpctypes.MetadataRequireLeaderKey`: a member without a leader refuses the call instead of
/// answering from what it has or keeping silent.
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

/// One unary call, as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) rpc: Rpc,
    pub(super) message: &'a Bytes,
    pub(super) lane: Lane,
    pub(super) deadline: Instant,
    pub(super) extra: Extra<'a>,
}

/// What a call says of itself beside its message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra<'a> {
    pub(super) token: Option<&'a HeaderValue>,
    pub(super) needs_leader: bool,
    /// The caller's own.
    pub(super) metadata: Option<&'a Metadata>,
}

/// A try that failed, and what is to be learned from it about the endpoint.
#[derive(Debug)]
pub(super) struct Setback {
    pub(super) fault: Fault,
    pub(super) news: News,
}

/// What a try shows that no other try has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    /// The endpoint cannot be reached.
    Unreachable,
    /// A connection broke under its calls.
    Broke,
}

/// One endpoint of a store.
pub(super) struct Endpoint {
    pub(super) connector: Connector,
    /// Other cores of the same store may have it, too.
    pub(super) health: Arc<Health>,
    scheme: Scheme,
    authority: Authority,
    /// What every request says.
    headers: HeaderMap,
    unary: Slots,
    bulk: Slots,
    watch: Slots,
}

impl Endpoint {
    pub(super) fn new(
        connector: Connector,
        authority: Authority,
        connections: Connections,
        health: Arc<Health>,
        metrics: &Arc<StoreMetrics>,
    ) -> Self {
        let slots = |lane, count| Slots::new(&connector, lane, count, metrics);
        Self {
            health,
            scheme: match connector.tls {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            },
            authority,
            headers: [(TE, TRAILERS), (CONTENT_TYPE, GRPC), (USER_AGENT, AGENT)]
                .into_iter()
                .collect(),
            unary: slots(Lane::Unary, connections.unary),
            bulk: slots(Lane::Bulk, connections.bulk),
            watch: slots(Lane::Watch, connections.watch),
            connector,
        }
    }

    /// One try of a call. `sent` is called before anything may leave.
    pub(super) async fn call(
        &self,
        call: Outgoing<'_>,
        sent: impl FnOnce(),
    ) -> Result<keyloom_store::Answer, Setback> {
        let mut link = self.link(call.lane).await?;
        let mut request = self.request(call.rpc.path_and_query(), call.extra);
        let left = call.deadline.saturating_duration_since(Instant::now());
        if let Some(left) = timeout::header(left) {
            request.headers_mut().insert(GRPC_TIMEOUT, left);
        }
        sent();
        let answer = exchange(&mut link, request, call.message).await;
        answer.map_err(|failure| setback(&link, failure))
    }

    /// A connection of a lane, made if need be. While the endpoint cannot be dialled, one that is
    /// open already will do.
    pub(super) async fn link(&self, lane: Lane) -> Result<Link, Setback> {
        let slots = self.slots(lane);
        if self.health.state() == EndpointState::Unreachable
            && let Some(link) = slots.open()
        {
            return Ok(link);
        }
        slots.next().link().await.map_err(|no_link| Setback {
            fault: Fault::Unsent(no_link.error.to_string()),
            news: match no_link.tell() {
                true => News::Unreachable,
                false => News::Nothing,
            },
        })
    }

    /// How the endpoint does, seen from one lane: a dial that failed for another one says nothing
    /// about the connections of this one.
    pub(super) fn state(&self, lane: Lane) -> EndpointState {
        match self.health.state() {
            EndpointState::Unreachable if self.slots(lane).open().is_some() => {
                EndpointState::Unwell
            }
            state => state,
        }
    }

    /// Leaves every connection to the calls that are on it: the next ones get new connections.
    pub(super) fn leave_connections(&self) {
        for lane in [Lane::Unary, Lane::Bulk, Lane::Watch] {
            for link in self.slots(lane).all().filter_map(Slot::open) {
                link.end();
            }
        }
    }

    fn slots(&self, lane: Lane) -> &Slots {
        match lane {
            Lane::Unary => &self.unary,
            Lane::Bulk => &self.bulk,
            Lane::Watch => &self.watch,
        }
    }

    /// A request without a time limit.
    pub(super) fn request(&self, path: PathAndQuery, extra: Extra<'_>) -> Request<()> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        // With all three parts there is always a URI.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if let Some(metadata) = extra.metadata {
            metadata.add_to(headers);
        }
        if let Some(token) = extra.token {
            headers.insert(TOKEN, token.clone());
        }
        if extra.needs_leader {
            headers.insert(HAS_LEADER, HeaderValue::from_static("true"));
        }
        request
    }
}

/// One request and its answer.
async fn exchange(
    link: &mut Link,
    request: Request<()>,
    message: &[u8],
) -> Result<keyloom_store::Answer, Failure> {
    let sent = link.sender.send_request(request, false);
    let (response, mut body) = sent.map_err(|error| Failure::not_taken(&error))?;
    // h2 holds what the peer does not take yet: one message, of a call that has its permit.
    let sent = body.send_data(framed(message), true);
    // What h2 says here it says again to who waits for the answer.
    drop((sent, body));
    let response = response.await.map_err(|error| Failure::of_send(&error))?;
    answer::unary(response).await
}

/// Draws from a failure what it says about its connection.
pub(super) fn setback(link: &Link, failure: Failure) -> Setback {
    let first = failure.fate != Fate::Lives && link.end();
    Setback {
        fault: failure.fault,
        news: match failure.fate {
            Fate::Broke if first => News::Broke,
            Fate::Lives | Fate::Ends | Fate::Broke => News::Nothing,
        },
    }
}

/// The connections of one lane, used in turn.
struct Slots {
    first: Slot,
    others: Vec<Slot>,
    turn: AtomicUsize,
}

impl Slots {
    fn new(connector: &Connector, lane: Lane, count: usize, metrics: &Arc<StoreMetrics>) -> Self {
        let slot = || Slot::new(connector.clone(), lane, Arc::clone(metrics));
        Self {
            first: slot(),
            others: (1..count).map(|_| slot()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn open(&self) -> Option<Link> {
        self.all().find_map(Slot::open)
    }

    fn next(&self) -> &Slot {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (1 + self.others.len());
        let other = turn.checked_sub(1).and_then(|place| self.others.get(place));
        other.unwrap_or(&self.first)
    }
}
