//! What travels with a call beside its messages: gRPC's custom metadata, as HTTP headers.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that belong to HTTP or to gRPC itself, and to one connection: they are made anew on each
/// leg and never handed on (gRPC over HTTP/2, "Requests"; RFC 9110, 7.6.1). All names that begin
/// with `grpc-` are reserved too.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Whether a header is HTTP's or gRPC's own.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("grpc-") || RESERVED.contains(&name)
}

/// The custom metadata of a call or of its answer: all headers that are not
/// [reserved](is_reserved). Clones are cheap, and most calls have none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(Option<Arc<HeaderMap>>);

impl Metadata {
    /// What is custom among some headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut custom = None;
        for (name, value) in headers {
            if !is_reserved(name) {
                custom
                    .get_or_insert_with(HeaderMap::new)
                    .append(name, value.clone());
            }
        }
        Self(custom.map(Arc::new))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.as_ref()?.get(name)
    }

    /// Gives a name one value, instead of those that it has.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let custom = self.0.get_or_insert_default();
        Arc::make_mut(custom).insert(name, value);
    }

    /// Adds it to the headers of a request, a response or trailers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.0.iter().flat_map(|custom| custom.iter()) {
            headers.append(name, value.clone());
        }
    }
}

/// It may hold a token: only the names are shown.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().flat_map(|custom| custom.keys());
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn what_belongs_to_the_caller_is_handed_on() {
        let own = [
            ("token", "secret.7"),
            ("authorization", "Bearer x"),
            ("hasleader", "true"),
            ("client-api-version", "3.7.0"),
            ("x-request-id", "7"),
            ("x-request-id", "8"),
            ("trace-bin", "AAEC"),
        ];
        let of_the_connection = [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "grpc-go/1.79"),
            ("grpc-timeout", "5S"),
            ("grpc-accept-encoding", "gzip"),
            ("grpc-previous-rpc-attempts", "1"),
            ("connection", "close"),
        ];
        let all = [&own[..], &of_the_connection[..]].concat();
        let mut handed_on = HeaderMap::new();
        Metadata::of(&headers(&all)).add_to(&mut handed_on);
        assert_eq!(handed_on, headers(&own));
        assert!(Metadata::of(&headers(&of_the_connection)).is_empty());
    }

    #[test]
    fn a_value_that_is_set_is_the_only_one_and_clones_keep_theirs() {
        let name = HeaderName::from_static("traceparent");
        let sent = Metadata::of(&headers(&[("traceparent", "a"), ("traceparent", "b")]));
        let mut changed = sent.clone();
        changed.set(name.clone(), HeaderValue::from_static("c"));
        let mut handed_on = HeaderMap::new();
        changed.add_to(&mut handed_on);
        assert_eq!(handed_on, headers(&[("traceparent", "c")]));
        assert_eq!(sent.get(&name).unwrap(), "a");
        let mut empty = Metadata::default();
        empty.set(name.clone(), HeaderValue::from_static("d"));
        assert_eq!(empty.get(&name).unwrap(), "d");
    }
}
