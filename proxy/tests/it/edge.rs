//! The edge of the real program: etcd's pages over HTTP/1, limits, and the access log.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyloom_etcd_api::{Rpc, etcdserverpb::PutRequest};
use prost::Message;
use tempfile::TempDir;

/// A Keyloom over one SQLite file.
pub(crate) struct Program {
    child: Child,
    /// `HOST:PORT` of its clients.
    pub(crate) address: String,
    _folder: TempDir,
}

impl Program {
    pub(crate) fn start(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("sqlite://{}/k.db", folder.path().display());
        Self::start_with(
            folder,
            &[&["--endpoint", &endpoint], flags].concat(),
            variables,
        )
    }

    /// `flags` name the stores.
    pub(crate) fn start_with(folder: TempDir, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "none"])
            .args(flags)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = None;
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in said.by_ref().map_while(Result::ok) {
            if let Some(url) = line.strip_prefix("serving on http://") {
                address = Some(url.to_owned());
            }
            if line == "ready" {
                break;
            }
        }
        Self {
            child,
            address: address.unwrap(),
            _folder: folder,
        }
    }

    /// The head and the body of a page.
    fn request(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.request("GET", path)
    }

    /// Ends it as a supervisor does, and gives back its log.
    pub(crate) fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let mut log = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already where all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn pages_are_etcds_own() {
    let keyloom = Program::start(&[], &[]);
    let (head, body) = keyloom.get("/health");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, r#"{"health":"true","reason":""}"#);
    let (head, body) = keyloom.get("/readyz?verbose&exclude=non_learner");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(
        head.contains("content-type: text/plain; charset=utf-8"),
        "{head}"
    );
    assert_eq!(
        body,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n"
    );
    assert_eq!(keyloom.get("/readyz/linearizable_read").1, "ok\n");
    assert_eq!(keyloom.get("/livez").1, "ok\n");
    let (head, body) = keyloom.get("/version");
    assert!(head.contains("content-type: application/json"), "{head}");
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    for part in ["etcdserver", "etcdcluster", "storage"] {
        assert!(version[part].is_string(), "{body}");
    }
    let (head, body) = keyloom.get("/metrics");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(body.contains("keyloom_proxy_calls_in_flight 0"), "{body}");
    for missing in ["/", "/readyz/nothing", "/livez/", "/healthz", "//"] {
        let (head, body) = keyloom.get(missing);
        assert!(head.starts_with("http/1.1 404"), "{missing}: {head}");
        assert_eq!(body, "404 page not found\n");
    }
    let (head, body) = keyloom.request("POST", "/livez");
    assert!(
        head.starts_with("http/1.1 405") && head.contains("allow: get"),
        "{head}"
    );
    assert_eq!(body, "Method Not Allowed\n");
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A client of gRPC that sends what headers it likes.
pub(crate) struct Client(SendRequest<Body>);

impl Client {
    pub(crate) async fn connect(keyloom: &Program) -> Self {
        let stream = tokio::net::TcpStream::connect(&keyloom.address)
            .await
            .unwrap();
        let (requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    /// Begins a call: its answer's headers, and what follows them.
    async fn begin(
        &mut self,
        rpc: Rpc,
        headers: &[(&str, &str)],
        body: Body,
    ) -> (HeaderMap, Incoming) {
        self.0.ready().await.unwrap();
        let uri = format!("http://keyloom{}", rpc.path());
        let mut request = Request::post(uri).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self
            .0
            .send_request(request.body(body).unwrap())
            .await
            .unwrap();
        let (head, body) = answer.into_parts();
        (head.headers, body)
    }

    /// Makes a unary call: its answer, or the code and the text of its error.
    pub(crate) async fn call(
        &mut self,
        rpc: Rpc,
        message: &impl Message,
        headers: &[(&str, &str)],
    ) -> Result<Bytes, (String, String)> {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut framed).unwrap();
        let body = Full::new(framed.freeze()).boxed();
        let (head, body) = self.begin(rpc, headers, body).await;
        error_of(&head)?;
        let body = body.collect().await.unwrap();
        error_of(body.trailers().unwrap())?;
        Ok(body.to_bytes().slice(5..))
    }
}

fn error_of(headers: &HeaderMap) -> Result<(), (String, String)> {
    let text = |name| {
        let value = headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().replace("%20", " ")
    };
    match text("grpc-status").as_str() {
        "" | "0" => Ok(()),
        code => Err((code.to_owned(), text("grpc-message"))),
    }
}

pub(crate) fn put(key: &'static str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn streams_beyond_a_callers_share_are_refused_until_one_ends() {
    let keyloom = Program::start(&["--max-streams-per-caller", "1"], &[]);
    let (mut one, mut other) = (
        Client::connect(&keyloom).await,
        Client::connect(&keyloom).await,
    );
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let requests = futures_util::stream::once(async move {
        drop(ends.await);
        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::new()))
    });
    let requests = StreamBody::new(requests).boxed();
    let (head, first) = one.begin(Rpc::LeaseKeepAlive, &[], requests).await;
    assert_eq!(error_of(&head), Ok(()));
    let (head, _) = other
        .begin(Rpc::LeaseKeepAlive, &[], Full::default().boxed())
        .await;
    let refusal = ("8".to_owned(), "etcdserver: too many requests".to_owned());
    assert_eq!(error_of(&head), Err(refusal));
    // Other calls and pages are answered.
    other
        .call(Rpc::Put, &put("key", "value"), &[])
        .await
        .unwrap();
    let metrics = keyloom.get("/metrics").1;
    let counted = "keyloom_proxy_calls_refused_total{limit=\"max-streams-per-caller\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        metrics.contains("keyloom_proxy_streams_open 1"),
        "{metrics}"
    );
    end.send(()).unwrap();
    assert_eq!(
        first.collect().await.unwrap().trailers().unwrap()["grpc-status"],
        "0"
    );
    let (head, _) = other
        .begin(Rpc::LeaseKeepAlive, &[], Full::default().boxed())
        .await;
    assert_eq!(error_of(&head), Ok(()));
}

#[tokio::test]
async fn a_request_is_as_large_as_the_flag_says() {
    let keyloom = Program::start(&["--max-request-bytes", "1000"], &[]);
    let mut client = Client::connect(&keyloom).await;
    let fits = put("key", vec![b'x'; 500 << 10]);
    client.call(Rpc::Put, &fits, &[]).await.unwrap();
    let (code, text) = client
        .call(Rpc::Put, &put("key", vec![b'x'; 513 << 10]), &[])
        .await
        .unwrap_err();
    assert_eq!(code, "8");
    assert!(text.contains("525321 vs. 525288"), "{text}");
}

#[tokio::test]
async fn the_access_log_says_who_called_what_and_never_a_key() {
    let keyloom = Program::start(&["--access-log"], &[]);
    let mut client = Client::connect(&keyloom).await;
    let secret = put("/registry/secrets/a", "hidden");
    client
        .call(Rpc::Put, &secret, &[("token", "token.9")])
        .await
        .unwrap();
    client
        .call(Rpc::Put, &put("", "hidden"), &[])
        .await
        .unwrap_err();
    drop(client);
    keyloom.get("/livez");
    let log = keyloom.stop();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("keyloom::access"))
        .collect();
    let [well, refused, page] = lines[..] else {
        panic!("{log}");
    };
    assert!(well.contains("caller=127.0.0.1:"), "{well}");
    assert!(well.contains("listener=http://127.0.0.1:"), "{well}");
    assert!(
        well.contains("call=/etcdserverpb.KV/Put code=Ok took_us="),
        "{well}"
    );
    assert!(refused.contains("code=InvalidArgument"), "{refused}");
    assert!(page.contains("call=/livez code=200"), "{page}");
    assert!(!log.contains("hidden") && !log.contains("secrets") && !log.contains("token.9"));
}
