//! Traces: from a client's `traceparent` through the real program to its stores, as a small receiver of
//! OTLP sees them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{RangeRequest, RangeResponse},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::edge::{Client, Program, put};

/// A collector of OTLP, over HTTP and over gRPC.
struct Collector {
    url: String,
    /// How each request came, and what was in it.
    requests: Receiver<(&'static str, ExportTraceServiceRequest)>,
}

const OVER_HTTP: &str = "/v1/traces";
const OVER_GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl Collector {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (tell, requests) = channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, tls) = (tell.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, tell).await,
                        Some(tls) => serve(tls.accept(stream).await.unwrap(), tell).await,
                    }
                });
            }
        });
        Self { url, requests }
    }

    /// All spans that came. To be called when the programs have ended: they have flushed them.
    fn spans(&self, way: &str) -> Vec<Seen> {
        let mut spans = Vec::new();
        for (came, request) in self.requests.try_iter() {
            assert_eq!(came, way);
            for resource in request.resource_spans {
                let attributes = texts(&resource.resource.unwrap().attributes);
                let service = &attributes["service.name"];
                let of_scope = resource.scope_spans.into_iter();
                let seen = of_scope.flat_map(|scope| scope.spans).map(|span| Seen {
                    service: service.clone(),
                    attributes: texts(&span.attributes),
                    span,
                });
                spans.extend(seen);
            }
        }
        spans
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    tell: Sender<(&'static str, ExportTraceServiceRequest)>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let (way, request, answer) = received(request).await;
            drop(tell.send((way, request)));
            Ok::<_, Infallible>(answer)
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let served = server.serve_connection(TokioIo::new(stream), service);
    // The program ends in the middle of it.
    drop(served.await);
}

async fn received(
    request: Request<Incoming>,
) -> (
    &'static str,
    ExportTraceServiceRequest,
    Response<BoxBody<Bytes, Infallible>>,
) {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    match head.uri.path() {
        OVER_HTTP => {
            assert_eq!(head.headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let answer = Response::new(Full::default().boxed());
            (OVER_HTTP, request, answer)
        }
        OVER_GRPC => {
            let request = ExportTraceServiceRequest::decode(body.slice(5..)).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let empty = Full::new(Bytes::from_static(&[0; 5]));
            let body = empty.with_trailers(async move { Some(Ok(trailers)) });
            let answer = Response::builder().header("content-type", "application/grpc");
            (OVER_GRPC, request, answer.body(body.boxed()).unwrap())
        }
        path => panic!("{path}"),
    }
}

/// A span that came.
#[derive(Debug)]
struct Seen {
    service: String,
    span: Span,
    attributes: BTreeMap<String, String>,
}

impl Seen {
    fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = match attribute.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{PARENT}-01")
}

fn of_trace<'a>(spans: &'a [Seen], trace: &str) -> Vec<&'a Seen> {
    let spans = spans.iter();
    spans
        .filter(|seen| hex(&seen.span.trace_id) == trace)
        .collect()
}

/// The one span of a client's call in a service, whose parent is `parent`.
fn call<'a>(spans: &[&'a Seen], service: &str, name: &str, parent: &str) -> &'a Seen {
    let calls = spans
        .iter()
        .filter(|seen| seen.service == service && seen.span.kind == SpanKind::Server as i32);
    let calls: Vec<_> = calls.collect();
    let [call] = calls[..] else {
        panic!("{calls:?}");
    };
    assert_eq!(call.span.name, name);
    assert_eq!(call.parent(), parent);
    assert_eq!(call.attributes["rpc.grpc.status_code"], "0");
    assert!(
        call.attributes["keyloom.listener"].starts_with("http://127.0.0.1:"),
        "{call:?}"
    );
    call
}

/// The names of the stores whose spans are children of a call, and no others of its service.
fn stores<'a>(spans: &[&'a Seen], of: &Seen) -> BTreeMap<&'a str, &'a Seen> {
    let calls = spans
        .iter()
        .copied()
        .filter(|seen| seen.service == of.service && seen.span.kind == SpanKind::Client as i32);
    let named = calls.map(|seen| {
        assert_eq!(seen.parent(), of.id(), "{seen:?}");
        assert_eq!(seen.attributes["rpc.grpc.status_code"], "0");
        assert!(seen.span.start_time_unix_nano >= of.span.start_time_unix_nano);
        (seen.attributes["keyloom.store"].as_str(), seen)
    });
    named.collect()
}

/// A Keyloom over a SQLite file and over a second store at `events`, with these variables.
fn over_two_stores(events: Option<&str>, variables: &[(&str, &str)]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("sqlite://{}/{name}.db", folder.path().display());
    let topology = format!(
        "default: {{endpoint: '{}'}}\n\
         backends:\n- {{name: events, endpoint: '{}', prefix: {{prefix: events}}}}\n",
        file("default"),
        events.map_or_else(|| file("events"), str::to_owned),
    );
    let path = folder.path().join("topology.yaml");
    std::fs::write(&path, topology).unwrap();
    let path = path.to_str().unwrap().to_owned();
    Program::start_with(folder, &["--topology", &path], variables)
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"/registry/"),
        range_end: Bytes::from_static(b"/registry0"),
        ..RangeRequest::default()
    }
}

const EVENT: &str = "/registry/events/shop/a";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_and_a_list_over_two_stores_are_seen_with_the_stores_as_children() {
    let collector = Collector::start(None).await;
    let keyloom = over_two_stores(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url)]);
    let mut client = Client::connect(&keyloom).await;
    let (of_put, of_list) = (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "5bf92f3577b34da6a3ce929d0e0e4736",
    );
    let other = put("/registry/pods/shop/a", "pod");
    client.call(Rpc::Put, &other, &[]).await.unwrap();
    let trace = traceparent(of_put);
    let headers = [("traceparent", &*trace), ("tracestate", "vendor=seven")];
    let event = put(EVENT, "event");
    client.call(Rpc::Put, &event, &headers).await.unwrap();
    let trace = traceparent(of_list);
    let (all, headers) = (everything(), [("traceparent", &*trace)]);
    let list = client.call(Rpc::Range, &all, &headers).await.unwrap();
    let list = RangeResponse::decode(list).unwrap();
    assert_eq!(list.kvs.len(), 2);
    drop(client);
    keyloom.stop();
    let spans = collector.spans(OVER_HTTP);

    let spans_of_put = of_trace(&spans, of_put);
    let mut states = spans_of_put.iter().map(|seen| &seen.span.trace_state);
    assert!(states.all(|state| state == "vendor=seven"), "{spans:?}");
    let of_call = call(&spans_of_put, "keyloom", "etcdserverpb.KV/Put", PARENT);
    let children = stores(&spans_of_put, of_call);
    assert_eq!(children.keys().collect::<Vec<_>>(), [&"events"]);
    assert_eq!(children["events"].span.name, "etcdserverpb.KV/Put");

    let spans_of_list = of_trace(&spans, of_list);
    let of_call = call(&spans_of_list, "keyloom", "etcdserverpb.KV/Range", PARENT);
    let children = stores(&spans_of_list, of_call);
    assert_eq!(children.keys().collect::<Vec<_>>(), [&"default", &"events"]);

    // The first put came without a parent: it begins a trace of its own.
    let roots = spans
        .iter()
        .filter(|seen| seen.span.parent_span_id.is_empty());
    let roots: Vec<_> = roots.map(|seen| &*seen.span.name).collect();
    assert_eq!(roots, ["etcdserverpb.KV/Put"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_on_in_a_store_that_traces_over_grpc() {
    let collector = Collector::start(None).await;
    let variables = |service| {
        [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.url),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_SERVICE_NAME", service),
        ]
    };
    let inner = Program::start(&[], &variables("inner"));
    let url = format!("http://{}", inner.address);
    let outer = over_two_stores(Some(&url), &variables("outer"));
    let mut client = Client::connect(&outer).await;
    let trace = "6bf92f3577b34da6a3ce929d0e0e4736";
    let sent = traceparent(trace);
    let event = put(EVENT, "event");
    let headers = [("traceparent", &*sent)];
    client.call(Rpc::Put, &event, &headers).await.unwrap();
    drop(client);
    outer.stop();
    inner.stop();

    let spans = collector.spans(OVER_GRPC);
    let spans = of_trace(&spans, trace);
    let name = "etcdserverpb.KV/Put";
    let children = stores(&spans, call(&spans, "outer", name, PARENT));
    assert_eq!(children.keys().collect::<Vec<_>>(), [&"events"]);
    let of_inner = call(&spans, "inner", name, &children["events"].id());
    let children = stores(&spans, of_inner);
    assert_eq!(children.keys().collect::<Vec<_>>(), [&"default"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_go_over_tls_to_a_collector_that_the_system_trusts() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for (protocol, way) in [("http/protobuf", OVER_HTTP), ("grpc", OVER_GRPC)] {
        let collector = Collector::start(Some(acceptor.clone())).await;
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("SSL_CERT_FILE", trusted.to_str().unwrap()),
        ];
        let keyloom = Program::start(&[], &variables);
        let mut client = Client::connect(&keyloom).await;
        let event = put(EVENT, "event");
        client.call(Rpc::Put, &event, &[]).await.unwrap();
        drop(client);
        let log = keyloom.stop();
        assert_eq!(collector.spans(way).len(), 2, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_where_nobody_takes_the_spans_or_nobody_wants_them() {
    let collector = Collector::start(None).await;
    // A port that nobody listens on any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let lost = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*address)];
    let off = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url),
        ("OTEL_SDK_DISABLED", "true"),
    ];
    for (variables, is_lost) in [(&lost[..], true), (&off[..], false)] {
        let keyloom = Program::start(&[], variables);
        let mut client = Client::connect(&keyloom).await;
        let event = put(EVENT, "event");
        client.call(Rpc::Put, &event, &[]).await.unwrap();
        drop(client);
        let log = keyloom.stop();
        let warning = "spans could not be exported and are lost";
        assert_eq!(log.contains(warning), is_lost, "{log}");
    }
    assert!(collector.spans(OVER_HTTP).is_empty());
}

#[test]
fn a_variable_that_cannot_be_used_is_named_at_the_start() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["serve", "--endpoint", "sqlite://./never.db"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env(name, value)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let error = String::from_utf8(ended.stderr).unwrap();
        assert!(error.contains(name), "{error}");
    }
}
