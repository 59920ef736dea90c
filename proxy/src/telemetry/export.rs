//! The export of spans over OTLP, as OpenTelemetry's environment variables say.
//!
//! Ended spans wait in the SDK's queue, which holds `OTEL_BSP_MAX_QUEUE_SIZE` (2048) of them: a span
//! that finds it full is dropped, and a call never waits. The SDK logs the first drop, and the number
//! of drops at the end.

use std::{env, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Protocol, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _, tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SdkTracerProvider, SpanData},
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Handle, Runtime},
    time::Instant,
};
use tracing::{Subscriber, level_filters::LevelFilter, warn};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::TARGET;

/// How long the end of the program waits until the last spans are sent.
const LAST_EXPORT: Duration = Duration::from_secs(5);

/// Failures to export are logged this often at most.
const FAILURES_TOLD_EVERY: Duration = Duration::from_secs(60);

/// The export of spans, from the start of the program to its end.
#[derive(Debug)]
pub(crate) struct TraceExport {
    provider: SdkTracerProvider,
    lost: Arc<Lost>,
    /// One thread of its own: neither do exports wait for calls, nor calls for them.
    runtime: Runtime,
}

impl TraceExport {
    /// What the environment asks for. `None` without an endpoint, with `OTEL_SDK_DISABLED=true` and
    /// with `OTEL_TRACES_EXPORTER=none`.
    ///
    /// # Errors
    /// Where a variable has a value that cannot be used.
    pub(crate) fn from_environment() -> Result<Option<Self>> {
        let Some(endpoint) = of_traces("ENDPOINT") else {
            return Ok(None);
        };
        if variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match variable("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                bail!("OTEL_TRACES_EXPORTER is \"{other}\"; Keyloom knows otlp and none")
            }
        }
        Self::to(&endpoint).map(Some)
    }

    fn to(endpoint: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .context("starting the thread of the export")?;
        let exporter = {
            // Connections are driven by the runtime in which they are made.
            let _entered = runtime.enter();
            match of_traces("PROTOCOL").as_deref() {
                Some("grpc") => over_grpc(endpoint)?,
                None | Some("http/protobuf") => over_http(endpoint)?,
                Some(other) => bail!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL is \"{other}\"; Keyloom knows grpc and \
                     http/protobuf"
                ),
            }
        };
        let lost = Arc::new(Lost::default());
        let exporter = Exporter {
            exporter: Arc::new(exporter),
            runtime: runtime.handle().clone(),
            lost: Arc::clone(&lost),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        Ok(Self {
            provider,
            lost,
            runtime,
        })
    }

    /// The layer of the log that hands the spans of calls on, and nothing else.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("keyloom"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // The parent is the span of the log; nothing reads OpenTelemetry's own current context.
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::DEBUG))
    }

    /// Sends what is left, for 5 s at most.
    pub(crate) fn finish(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_EXPORT) {
            warn!(%error, "the last spans may not have been exported");
        }
        self.lost.tell_rest();
        self.runtime.shutdown_background();
    }
}

fn over_grpc(endpoint: &str) -> Result<SpanExporter> {
    let mut builder = SpanExporter::builder().with_tonic();
    if !endpoint.starts_with("http://") {
        builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    Ok(builder.build()?)
}

fn over_http(endpoint: &str) -> Result<SpanExporter> {
    let timeout = match of_traces("TIMEOUT") {
        None => OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT,
        Some(text) => Duration::from_millis(
            text.parse()
                .context("OTEL_EXPORTER_OTLP_TIMEOUT is not a number of milliseconds")?,
        ),
    };
    let builder = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary);
    let builder = if endpoint.starts_with("https://") {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .context("reading the system's certificates")?
            .https_only()
            .enable_http1()
            .build();
        builder.with_http_client(HyperClient::new(connector, timeout, None))
    } else {
        builder.with_http_client(HyperClient::with_default_connector(timeout, None))
    };
    Ok(builder.build()?)
}

/// Who exports: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and else `keyloom`.
fn resource() -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&opentelemetry::Key::from_static_str("service.name"));
    // What the SDK says where nothing is set.
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    match is_named {
        true => given,
        false => Resource::builder().with_service_name("keyloom").build(),
    }
}

/// A variable of the export of traces: its own, or that of all exports.
fn of_traces(what: &str) -> Option<String> {
    variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{what}"))
        .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{what}")))
}

/// An empty variable is one that is not set, as OpenTelemetry has it.
fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Exports on the runtime of [`TraceExport`]: the SDK's thread has none, and hyper wants one.
#[derive(Debug)]
struct Exporter {
    exporter: Arc<SpanExporter>,
    runtime: Handle,
    lost: Arc<Lost>,
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let spans = batch.len();
        let exported = self.runtime.spawn(async move {
            opentelemetry_sdk::trace::SpanExporter::export(&*exporter, batch).await
        });
        let exported = exported.await.unwrap_or_else(|error| {
            let error = error.to_string();
            Err(OTelSdkError::InternalFailure(error))
        });
        if let Err(error) = exported {
            self.lost.add(spans, &error);
        }
        // The SDK would log each failure.
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nobody else has it: the SDK sets it before it exports.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            opentelemetry_sdk::trace::SpanExporter::set_resource(exporter, resource);
        }
    }
}

/// The spans that could not be exported, and when that was logged.
#[derive(Debug, Default)]
struct Lost(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    spans: usize,
    told: Option<Instant>,
}

impl Lost {
    fn add(&self, spans: usize, error: &OTelSdkError) {
        let mut untold = self.0.lock();
        untold.spans += spans;
        let is_due = |told: Instant| told.elapsed() >= FAILURES_TOLD_EVERY;
        if untold.told.is_none_or(is_due) {
            let spans = std::mem::take(&mut untold.spans);
            untold.told = Some(Instant::now());
            drop(untold);
            warn!(spans, %error, "spans could not be exported and are lost");
        }
    }

    fn tell_rest(&self) {
        let spans = std::mem::take(&mut self.0.lock().spans);
        if spans > 0 {
            warn!(spans, "more spans could not be exported and are lost");
        }
    }
}
