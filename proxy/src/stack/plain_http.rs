//! The pages that etcd serves over plain HTTP on its client port (`server/etcdserver/api/etcdhttp`):
//! probes of kubeadm, Patroni and operators read them.
//!
//! `/livez` asks no store, other than etcd's: a Keyloom that is restarted because a store is away is
//! no help to anybody.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use keyloom_etcd_api::{
    Rpc, Status,
    etcdserverpb::{
        AlarmRequest, AlarmResponse, AlarmType, RangeRequest, StatusRequest, StatusResponse,
        alarm_request::AlarmAction,
    },
};
use prost::Message;
use serde_json::json;
use tokio::time::Instant;
use tonic::body::Body;

use crate::services::{Context, Services};

/// etcd's `ReqTimeout` with its default election timeout (`server/config/config.go`).
const TIMEOUT: Duration = Duration::from_secs(7);

/// What the pages show that no store says.
pub(crate) struct HttpPages {
    /// Whether calls can be answered now, and else why not.
    pub(crate) ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether they can ever be again.
    pub(crate) alive: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// In the format of OpenMetrics.
    pub(crate) metrics: Box<dyn Fn() -> Result<String, std::fmt::Error> + Send + Sync>,
}

impl std::fmt::Debug for HttpPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPages").finish_non_exhaustive()
    }
}

impl HttpPages {
    /// Answers one request for a page.
    pub(super) async fn answer<B>(
        &self,
        services: &Services,
        request: Request<B>,
    ) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query());
        let query = query.unwrap_or_default();
        let (kind, check) = path.split_at(path[1..].find('/').map_or(path.len(), |at| at + 1));
        let known = match kind {
            "/version" | "/health" | "/metrics" => check.is_empty(),
            "/livez" => LIVEZ.serves(check),
            "/readyz" => READYZ.serves(check),
            _ => false,
        };
        if !known {
            return text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
        }
        if request.method() != Method::GET && kind != "/metrics" {
            let mut refused = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "Method Not Allowed\n".to_owned(),
            );
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        match kind {
            "/version" => version(services).await,
            "/health" => self.health(services, query).await,
            "/metrics" => self.metrics(),
            "/livez" => self.checks(services, &LIVEZ, check, query).await,
            _ => self.checks(services, &READYZ, check, query).await,
        }
    }

    fn metrics(&self) -> Response<Body> {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        match (self.metrics)() {
            Ok(page) => respond(StatusCode::OK, kind, page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// As `health.go` answers it.
    async fn health(&self, services: &Services, query: &str) -> Response<Body> {
        let serializable = values(query, "serializable").next() == Some("true");
        let excluded: Vec<&str> = values(query, "exclude").collect();
        let reason = self.unhealthy(services, serializable, &excluded).await;
        let healthy = reason.is_none();
        let reason = json!(reason.unwrap_or_default());
        let page = format!(r#"{{"health":"{healthy}","reason":{reason}}}"#);
        if healthy {
            // Go guesses the type from the first bytes.
            respond(StatusCode::OK, TEXT, page)
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, page + "\n")
        }
    }

    async fn unhealthy(
        &self,
        services: &Services,
        serializable: bool,
        excluded: &[&str],
    ) -> Option<String> {
        let alarm = raised(services)
            .await
            .into_iter()
            .find(|alarm| !excluded.contains(&alarm.as_str_name()));
        if let Some(alarm) = alarm {
            return Some(format!("ALARM {}", alarm.as_str_name()));
        }
        if !serializable && (self.ready)().is_err() {
            return Some("RAFT NO LEADER".to_owned());
        }
        let read = read(services, serializable).await;
        read.err().map(|error| format!("RANGE ERROR:{error}"))
    }

    /// As `health.go` answers `/livez` and `/readyz`, and single checks below them.
    async fn checks(
        &self,
        services: &Services,
        checks: &Checks,
        check: &str,
        query: &str,
    ) -> Response<Body> {
        let excluded: Vec<&str> = values(query, "exclude").collect();
        let wanted = checks.names.iter().filter(|name| match check {
            "" => !excluded.contains(name),
            one => &one[1..] == **name,
        });
        let (mut reasons, mut failed) = (String::new(), false);
        for name in wanted {
            let line = match self.check(services, checks, name).await {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(error) => {
                    failed = true;
                    format!("[-]{name} failed: {error}\n")
                }
            };
            reasons.push_str(&line);
        }
        if failed {
            return text(StatusCode::SERVICE_UNAVAILABLE, reasons + "\n");
        }
        let mut page = if has(query, "verbose") {
            reasons
        } else {
            String::new()
        };
        page.push_str("ok\n");
        text(StatusCode::OK, page)
    }

    async fn check(&self, services: &Services, checks: &Checks, name: &str) -> Result<(), String> {
        match (checks.path, name) {
            ("/livez", _) => (self.alive)(),
            (_, "data_corruption") => {
                let raised = raised(services).await;
                match raised.contains(&AlarmType::Corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            (_, "serializable_read") => read(services, true).await,
            (_, "linearizable_read") => {
                (self.ready)()?;
                read(services, false).await
            }
            // A store's learner refuses reads; Keyloom itself is none.
            _ => Ok(()),
        }
    }
}

/// The checks behind a path.
struct Checks {
    path: &'static str,
    names: &'static [&'static str],
}

const LIVEZ: Checks = Checks {
    path: "/livez",
    names: &["serializable_read"],
};

const READYZ: Checks = Checks {
    path: "/readyz",
    names: &[
        "data_corruption",
        "serializable_read",
        "linearizable_read",
        "non_learner",
    ],
};

impl Checks {
    /// Whether there is a page at the path followed by `check`.
    fn serves(&self, check: &str) -> bool {
        match check.strip_prefix('/') {
            None => check.is_empty(),
            Some(name) => self.names.contains(&name),
        }
    }
}

/// As `version.go` answers it. The version is the stores', as clients take it for what they can ask
/// for.
async fn version(services: &Services) -> Response<Body> {
    let answer: Result<StatusResponse, String> =
        ask(services, Rpc::Status, &StatusRequest {}).await;
    match answer {
        Ok(status) => {
            let cluster = cluster_version(&status.version);
            let storage = match status.storage_version.as_str() {
                "" => "unknown",
                version => version,
            };
            let (server, cluster, storage) =
                (json!(status.version), json!(cluster), json!(storage));
            let page =
                format!(r#"{{"etcdserver":{server},"etcdcluster":{cluster},"storage":{storage}}}"#);
            respond(StatusCode::OK, "application/json", page)
        }
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error + "\n"),
    }
}

/// A cluster's version has no patch level.
fn cluster_version(server: &str) -> String {
    let mut parts = server.splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}.0"),
        _ => "not_decided".to_owned(),
    }
}

/// The alarms that stores have raised. Where they cannot be asked, a read fails too, and says so.
async fn raised(services: &Services) -> Vec<AlarmType> {
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..AlarmRequest::default()
    };
    let answer: Result<AlarmResponse, String> = ask(services, Rpc::Alarm, &request).await;
    let alarms = answer.map(|answer| answer.alarms).unwrap_or_default();
    alarms.iter().map(|member| member.alarm()).collect()
}

/// Reads a key that need not be there, as `etcdctl endpoint health` does.
async fn read(services: &Services, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        limit: 1,
        keys_only: true,
        serializable,
        ..RangeRequest::default()
    };
    let message = Bytes::from(request.encode_to_vec());
    call(services, Rpc::Range, message).await.map(drop)
}

async fn ask<A: Message + Default>(
    services: &Services,
    rpc: Rpc,
    request: &impl Message,
) -> Result<A, String> {
    let answer = call(services, rpc, request.encode_to_vec().into()).await?;
    A::decode(answer).map_err(|error| error.to_string())
}

async fn call(services: &Services, rpc: Rpc, message: Bytes) -> Result<Bytes, String> {
    let deadline = Instant::now() + TIMEOUT;
    let context = Context::until(Some(deadline));
    let answer = services.unary(rpc, message, &context);
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(answer) => match answer {
            Ok(answer) => Ok(answer.into_bytes()),
            Err(failure) => Err(Status::from(failure).message().to_owned()),
        },
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// The values that a query gives to a name; those that etcd knows need no decoding.
fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query
        .split('&')
        .filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn has(query: &str, name: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some(name))
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What Go's `http.Error` and the pages of checks send.
fn text(status: StatusCode, page: String) -> Response<Body> {
    let mut response = respond(status, TEXT, page);
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn respond(status: StatusCode, kind: &'static str, page: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(page)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = "exclude=NOSPACE&verbose&exclude=&serializable=true";
        let excluded: Vec<&str> = values(query, "exclude").collect();
        assert_eq!(excluded, ["NOSPACE", ""]);
        assert!(has(query, "verbose") && !has(query, "verb"));
        assert_eq!(values(query, "serial").next(), None);
    }

    #[test]
    fn there_are_pages_for_single_checks() {
        assert!(READYZ.serves("") && READYZ.serves("/data_corruption"));
        assert!(!READYZ.serves("/") && !READYZ.serves("/nothing") && !LIVEZ.serves("/non_learner"));
    }

    #[test]
    fn a_clusters_version_has_no_patch_level() {
        assert_eq!(cluster_version("3.6.4"), "3.6.0");
        assert_eq!(cluster_version("3.6.0-rc.1"), "3.6.0");
        assert_eq!(cluster_version(""), "not_decided");
    }
}
