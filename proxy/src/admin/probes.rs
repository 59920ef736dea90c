//! Probes, metrics, and the state of the stores.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{
    Shared, exposition,
    page::{AdminPage, Format},
};
use crate::stores::{ClassUsage, EndpointHealth};

/// `{"ready": true}`, or `{"ready": false, "reason": "…"}`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// `{"live": true}`.
#[derive(Debug, Serialize)]
struct Liveness {
    live: bool,
}

/// `{"endpoints": […]}`.
#[derive(Debug, Serialize)]
struct Health {
    endpoints: Vec<EndpointHealth>,
}

/// `{"classes": […]}`.
#[derive(Debug, Serialize)]
struct Usage {
    classes: Vec<ClassUsage>,
}

pub(super) async fn livez(format: Format) -> Response {
    format.answer(StatusCode::OK, &Liveness { live: true })
}

pub(super) async fn readyz(format: Format, State(shared): State<Arc<Shared>>) -> Response {
    let reason = shared.readiness().err();
    let status = match reason {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = reason.is_none();
    format.answer(status, &Readiness { ready, reason })
}

pub(super) async fn metrics(format: Format, State(shared): State<Arc<Shared>>) -> Response {
    let page = match shared.metrics_page() {
        Ok(page) => page,
        Err(error) => return format.refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    match format {
        Format::Text => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], page).into_response()
        }
        Format::Json => axum::Json(exposition::read(&page)).into_response(),
    }
}

pub(super) async fn stores(format: Format, State(shared): State<Arc<Shared>>) -> Response {
    let endpoints = shared.stores.health();
    format.answer(StatusCode::OK, &Health { endpoints })
}

pub(super) async fn usage(format: Format, State(shared): State<Arc<Shared>>) -> Response {
    let classes = shared.stores.usage();
    format.answer(StatusCode::OK, &Usage { classes })
}

impl AdminPage for Liveness {
    fn text(&self) -> String {
        "ok\n".to_owned()
    }
}

impl AdminPage for Readiness {
    fn text(&self) -> String {
        format!("{}\n", self.reason.as_deref().unwrap_or("ok"))
    }
}

impl AdminPage for Health {
    /// `STORE TAB ADDRESS TAB STATE TAB LAST ERROR` a line.
    fn text(&self) -> String {
        let lines = self.endpoints.iter().map(|endpoint| {
            let error = endpoint.last_error.as_deref().unwrap_or_default();
            let EndpointHealth {
                store,
                address,
                state,
                ..
            } = endpoint;
            format!("{store}\t{address}\t{state}\t{error}\n")
        });
        lines.collect()
    }
}

impl AdminPage for Usage {
    /// `STORE TAB CLASS TAB KEYS TAB BYTES` a line.
    fn text(&self) -> String {
        let lines = self.classes.iter().map(|usage| {
            let ClassUsage {
                store,
                class,
                keys,
                bytes,
            } = usage;
            format!("{store}\t{class}\t{keys}\t{bytes}\n")
        });
        lines.collect()
    }
}
