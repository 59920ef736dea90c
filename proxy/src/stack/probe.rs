//! The paths that etcd serves over plain HTTP on its client port: probes of kubeadm, Patroni and
//! operators read them.

use http::{Response, StatusCode};
use tonic::body::Body;

/// `/health` as etcd answers it (`api/etcdhttp/health.go`).
pub(super) fn health(ready: bool) -> Response<Body> {
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, format!(r#"{{"health":"{ready}","reason":""}}"#))
}

pub(super) fn not_found() -> Response<Body> {
    json(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

fn json(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}
