//! The operator's endpoint: probes, metrics and a look at the ledger, over plain HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use keyloom_store::environment::Connection;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{instance::Instance, listen::Accept, stores::Health};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the pages show.
pub(crate) struct Shared {
    registry: Registry,
    stores: Health,
    instance: RwLock<Option<Arc<Instance>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(registry: Registry, stores: Health) -> Self {
        Self {
            registry,
            stores,
            instance: RwLock::new(None),
        }
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
            None => Err("starting: waiting for the stores, or for the ledger's term".to_owned()),
        }
    }
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
            Ok(connection) => {
                tasks.spawn(answer(connection, Arc::clone(&shared), stop.clone()));
            }
            Err(error) => debug!(%error, "admin connection not accepted"),
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn answer(connection: Box<dyn Connection>, shared: Arc<Shared>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = page(&request, &shared);
        async move { Ok::<_, Infallible>(page) }
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

fn page(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match shared.readiness() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => metrics(&shared.registry),
        "/stores" => text(StatusCode::OK, shared.stores.page()),
        "/usage" => text(StatusCode::OK, shared.stores.usage()),
        _ => text(
            StatusCode::NOT_FOUND,
            "pages: /livez /readyz /metrics /stores /usage\n".to_owned(),
        ),
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut page = String::new();
    match prometheus_client::encoding::text::encode(&mut page, registry) {
        Ok(()) => {
            let mut response = text(StatusCode::OK, page);
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let kind = header::HeaderValue::from_static(kind);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
