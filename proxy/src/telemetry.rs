//! The spans of calls: what they have in common, and how a trace goes on from a client to a store.
//!
//! Their target is off unless the log or the export of traces asks for it. Then a call pays for a look
//! at one number: no span is made, and no header is looked up.

mod export;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyloom_etcd_api::Metadata;
use keyloom_store::CallError;
use opentelemetry::{
    Context,
    propagation::{Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument as _, Level, Span, debug_span, field::Empty, span_enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub(crate) use export::TraceExport;

/// The target of the spans of calls, as `--log keyloom_proxy::trace=debug` names it.
pub(crate) const TARGET: &str = "keyloom_proxy::trace";

/// Makes the span that a client sent with its call (W3C Trace Context: `traceparent`, `tracestate`)
/// the parent of the call's own. To be called before the span is entered.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    let headers = HeaderExtractor(headers);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    if parent.span().span_context().is_valid() {
        // It fails where only the log wants spans: then there is no trace to go on with.
        drop(span.set_parent(parent));
    }
}

/// Records what a call is, from its path `/service/method`.
pub(crate) fn record_path(span: &Span, path: &str) {
    let name = path.trim_start_matches('/');
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    span.record("otel.name", name);
    span.record("rpc.service", service);
    span.record("rpc.method", method);
}

/// The span of a call to a store, within that of a client's call. None outside of one: probes would
/// drown what is looked for.
pub(crate) fn store_call(store: &str, path: &str) -> Span {
    if !is_in_a_call() {
        return Span::none();
    }
    let span = debug_span!(
        target: TARGET,
        "store call",
        otel.name = Empty,
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        rpc.system = "grpc",
        rpc.service = Empty,
        rpc.method = Empty,
        rpc.grpc.status_code = Empty,
        keyloom.store = store,
        keyloom.attempts = Empty,
    );
    record_path(&span, path);
    span
}

/// The span of the time for which an answer waits until the ledger covers it.
pub(crate) fn revision_wait() -> Span {
    if !is_in_a_call() {
        return Span::none();
    }
    debug_span!(target: TARGET, "revision wait")
}

/// Asks the target first: that is one number, and the current span is a look-up.
fn is_in_a_call() -> bool {
    span_enabled!(target: TARGET, Level::DEBUG)
        && Span::current()
            .metadata()
            .is_some_and(|current| current.target() == TARGET)
}

/// Sends a span's place in its trace to a store, instead of what the client sent.
pub(crate) fn hand_on(span: &Span, metadata: &mut Metadata) {
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Outgoing(metadata));
    }
}

struct Outgoing<'a>(&'a mut Metadata);

impl Injector for Outgoing<'_> {
    fn set(&mut self, name: &str, value: String) {
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::try_from(value),
        ) else {
            return;
        };
        // An empty `tracestate` says nothing.
        if !value.is_empty() {
            self.0.set(name, value);
        }
    }
}

/// Waits for a store's answer within its span, and records how it ended.
pub(crate) async fn answered<T>(
    span: Span,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let answer = answer.instrument(span.clone()).await;
    match &answer {
        Ok(_) => drop(span.record("rpc.grpc.status_code", 0)),
        Err(error) => record_error(&span, error),
    }
    answer
}

/// Records why a store did not answer, or which error it answered.
pub(crate) fn record_error(span: &Span, error: &CallError) {
    if span.is_disabled() {
        return;
    }
    if let CallError::Refused(status) = error {
        span.record("rpc.grpc.status_code", status.code().number());
    }
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", error.to_string());
}
