//! A page as text and as JSON, and which of them is asked for.

use axum::{
    extract::{FromRequestParts, Query},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};

/// What a page shows. As JSON it is what is serialized, as text what [`AdminPage::text`] gives.
pub(super) trait AdminPage: Serialize {
    /// Lines, each with its end.
    fn text(&self) -> String;
}

/// In which form an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Text,
    Json,
}

/// Why there is no page: `{"error": "…"}`.
#[derive(Debug, Serialize)]
struct ErrorPage<'t> {
    error: &'t str,
}

impl AdminPage for ErrorPage<'_> {
    fn text(&self) -> String {
        format!("{}\n", self.error)
    }
}

impl Format {
    /// The page in this form.
    pub(super) fn answer(self, status: StatusCode, page: &impl AdminPage) -> Response {
        match self {
            Self::Text => (status, page.text()).into_response(),
            Self::Json => (status, axum::Json(page)).into_response(),
        }
    }

    pub(super) fn refuse(self, status: StatusCode, error: &str) -> Response {
        self.answer(status, &ErrorPage { error })
    }

    /// The first form in `Accept` that there is; text where none is named.
    fn accepted(headers: &HeaderMap) -> Self {
        let texts = headers.get_all(header::ACCEPT).into_iter();
        let texts = texts.filter_map(|value| value.to_str().ok());
        let kinds = texts.flat_map(|text| text.split(','));
        let named = kinds.filter_map(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            match kind {
                "application/json" => Some(Self::Json),
                _ if kind.starts_with("text/") || kind == "*/*" => Some(Self::Text),
                _ => None,
            }
        });
        named.into_iter().next().unwrap_or(Self::Text)
    }
}

/// `?format=text` or `?format=json`, which decides before `Accept` does.
#[derive(Deserialize)]
struct FormatQuery {
    format: Option<Format>,
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let accepted = Self::accepted(&parts.headers);
        match Query::<FormatQuery>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(asked.format.unwrap_or(accepted)),
            Err(_) => Err(accepted.refuse(StatusCode::BAD_REQUEST, "format= is text or json")),
        }
    }
}
