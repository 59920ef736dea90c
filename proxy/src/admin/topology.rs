//! The pages of the topology: what is served, whether that is the file, and which keys are hidden.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    page::{AdminPage, Format},
};
use crate::bringup::{Stray, StrayCursor, Strays};

/// Whether what is served is the file.
#[derive(Debug, Serialize)]
struct TopologyStatus {
    /// `given`, or `accepted before` where the file is refused.
    serving: &'static str,
    /// How many changes took effect since the start.
    changes: u64,
    /// Why the file is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Some of the keys that route to another store than the one that holds them.
#[derive(Debug, Serialize)]
struct StrayPage {
    strays: Vec<StrayLine>,
    /// Where the next page begins, for `?from=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StrayLine {
    store: String,
    /// With escapes such as `\x00` for what is not plain ASCII.
    key: String,
    routes_to: String,
}

/// Where a page of strays begins.
#[derive(Debug, Deserialize)]
pub(super) struct StrayQuery {
    from: Option<String>,
}

/// What is served, as a file; as JSON the same fields.
pub(super) async fn topology(format: Format, State(shared): State<Arc<Shared>>) -> Response {
    let Some(instance) = shared.instance() else {
        return starting(format);
    };
    let topology = instance.topology();
    match format {
        Format::Text => topology.to_text().into_response(),
        Format::Json => axum::Json(topology.to_json()).into_response(),
    }
}

pub(super) async fn status(format: Format, State(shared): State<Arc<Shared>>) -> Response {
    let Some(instance) = shared.instance() else {
        return starting(format);
    };
    let refused = shared.topology.refused();
    let status = TopologyStatus {
        serving: match refused {
            None => "given",
            Some(_) => "accepted before",
        },
        changes: instance.generation(),
        refused,
    };
    format.answer(StatusCode::OK, &status)
}

pub(super) async fn strays(
    format: Format,
    State(shared): State<Arc<Shared>>,
    Query(StrayQuery { from }): Query<StrayQuery>,
) -> Response {
    let Some(instance) = shared.instance() else {
        return starting(format);
    };
    let from = match from.as_deref().map(cursor_of) {
        Some(None) => {
            let what = "from= is the place behind `next` of the page before";
            return format.refuse(StatusCode::BAD_REQUEST, what);
        }
        from => from.flatten(),
    };
    match instance.strays(from).await {
        Ok(strays) => format.answer(StatusCode::OK, &StrayPage::of(strays)),
        Err(error) => format.refuse(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

impl AdminPage for TopologyStatus {
    fn text(&self) -> String {
        let changes = self.changes;
        match &self.refused {
            None => format!("serving: the topology as given\nchanges: {changes}\n"),
            Some(why) => format!(
                "serving: the topology that was accepted before\nchanges: {changes}\n\
                 refused: {why}\n"
            ),
        }
    }
}

impl StrayPage {
    fn of(found: Strays) -> Self {
        let line = |stray: Stray| StrayLine {
            store: stray.store,
            key: stray.key.escape_ascii().to_string(),
            routes_to: stray.routes_to,
        };
        Self {
            strays: found.strays.into_iter().map(line).collect(),
            next: found.next.map(|StrayCursor { store, key }| {
                let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{store}:{hex}")
            }),
        }
    }
}

impl AdminPage for StrayPage {
    /// `STORE TAB KEY TAB STORE` a line; the last one may be `next TAB PLACE`.
    fn text(&self) -> String {
        let lines = self.strays.iter().map(|stray| {
            let StrayLine {
                store,
                key,
                routes_to,
            } = stray;
            format!("{store}\t{key}\t{routes_to}\n")
        });
        let next = self.next.iter().map(|place| format!("next\t{place}\n"));
        lines.chain(next).collect()
    }
}

fn starting(format: Format) -> Response {
    format.refuse(StatusCode::SERVICE_UNAVAILABLE, "starting")
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
