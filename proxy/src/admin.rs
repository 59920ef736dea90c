//! The operator's endpoint: probes, metrics and a look at the ledger, over plain HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use keyloom_environment::Connection;
use parking_lot::RwLock;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    bringup::{FileStatus, Stray, StrayCursor},
    gauges::Gauges,
    instance::Instance,
    listen::Accept,
    stores::Stores,
};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the pages show.
pub(crate) struct Shared {
    registry: Registry,
    gauges: Gauges,
    stores: Arc<Stores>,
    topology: FileStatus,
    instance: RwLock<Option<Arc<Instance>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(mut registry: Registry, stores: Arc<Stores>, topology: FileStatus) -> Self {
        let gauges = Gauges::register(&mut registry);
        Self {
            registry,
            gauges,
            stores,
            topology,
            instance: RwLock::new(None),
        }
    }

    /// How many connections of clients are open: to be kept by the listeners.
    pub(crate) fn connections(&self) -> Gauge {
        self.gauges.connections.clone()
    }

    /// The instance serves from now on.
    pub(crate) fn ready(&self, instance: Arc<Instance>) {
        *self.instance.write() = Some(instance);
    }

    /// Lets go of the instance, so that it can end.
    pub(crate) fn release(&self) {
        *self.instance.write() = None;
    }

    fn readiness(&self) -> Result<(), String> {
        match &*self.instance.read() {
            Some(instance) => instance.ready(),
            None => Err("starting: waiting for the stores, or for the leadership".to_owned()),
        }
    }
}

impl Shared {
    fn instance(&self) -> Option<Arc<Instance>> {
        self.instance.read().clone()
    }

    /// All metrics in the format of OpenMetrics.
    pub(crate) fn metrics_page(&self) -> Result<String, std::fmt::Error> {
        let gauges = self.instance().map(|instance| instance.gauges());
        self.gauges.look(&gauges.unwrap_or_default());
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry)?;
        Ok(page)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics_page() {
            Ok(page) => {
                let mut response = text(StatusCode::OK, page);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                let kind = header::HeaderValue::from_static(kind);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// The topology's pages.
impl Shared {
    /// What is served, as a file.
    fn topology_text(&self) -> Response<Full<Bytes>> {
        match self.instance() {
            Some(instance) => text(StatusCode::OK, instance.topology_text()),
            None => starting(),
        }
    }

    /// Whether that is the file.
    fn topology_status(&self) -> Response<Full<Bytes>> {
        let Some(instance) = self.instance() else {
            return starting();
        };
        let changes = instance.generation();
        let page = match self.topology.refused() {
            None => format!("serving: the topology as given\nchanges: {changes}\n"),
            Some(why) => format!(
                "serving: the topology that was accepted before\nchanges: {changes}\n\
                 refused: {why}\n"
            ),
        };
        text(StatusCode::OK, page)
    }

    /// `STORE TAB KEY TAB STORE` a line; the last one may be `next TAB PLACE`.
    async fn strays(&self, query: &str) -> Response<Full<Bytes>> {
        let Some(instance) = self.instance() else {
            return starting();
        };
        let from = match query.strip_prefix("from=").map(cursor_of) {
            Some(None) => {
                let what = "from= takes the place that the page before has behind `next`\n";
                return text(StatusCode::BAD_REQUEST, what.to_owned());
            }
            from => from.flatten(),
        };
        let strays = match instance.strays(from).await {
            Ok(strays) => strays,
            Err(error) => return text(StatusCode::BAD_GATEWAY, format!("{error}\n")),
        };
        let mut page = String::new();
        for Stray {
            store,
            key,
            routes_to,
        } in strays.strays
        {
            page.push_str(&format!("{store}\t{}\t{routes_to}\n", key.escape_ascii()));
        }
        if let Some(StrayCursor { store, key }) = strays.next {
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            page.push_str(&format!("next\t{store}:{hex}\n"));
        }
        text(StatusCode::OK, page)
    }
}

fn starting() -> Response<Full<Bytes>> {
    text(StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned())
}

/// `STORE:HEX`, as it stands behind `next`.
fn cursor_of(text: &str) -> Option<StrayCursor> {
    let (store, hex) = text.split_once(':')?;
    let mut key = Vec::with_capacity(hex.len() / 2);
    let mut digits = hex.chars();
    while let Some(high) = digits.next() {
        let (high, low) = (high.to_digit(16)?, digits.next()?.to_digit(16)?);
        key.push(u8::try_from(high * 16 + low).ok()?);
    }
    (!key.is_empty()).then(|| StrayCursor {
        store: store.to_owned(),
        key: key.into(),
    })
}

/// Serves the pages until `stop` is cancelled.
pub(crate) async fn serve(listener: Box<dyn Accept>, shared: Arc<Shared>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                tasks.spawn(answer(
                    accepted.connection,
                    Arc::clone(&shared),
                    stop.clone(),
                ));
            }
            Err(error) => debug!(%error, "admin connection not accepted"),
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn answer(connection: Box<dyn Connection>, shared: Arc<Shared>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(page(&request, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service);
    tokio::select! {
        result = served => if let Err(error) = result { debug!(%error, "admin connection ended") },
        () = stop.cancelled() => {}
    }
}

async fn page(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match shared.readiness() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => shared.metrics(),
        "/stores" => text(StatusCode::OK, shared.stores.page()),
        "/usage" => text(StatusCode::OK, shared.stores.usage()),
        "/topology" => shared.topology_text(),
        "/topology/status" => shared.topology_status(),
        "/topology/strays" => {
            shared
                .strays(request.uri().query().unwrap_or_default())
                .await
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "pages: /livez /readyz /metrics /stores /usage /topology /topology/status \
             /topology/strays\n"
                .to_owned(),
        ),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
