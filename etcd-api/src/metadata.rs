//! What travels with a call beside its messages: gRPC's custom metadata, as HTTP headers.

use http::{HeaderMap, HeaderName};

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
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("grpc-") || RESERVED.contains(&name)
}

/// The custom metadata among some headers: all that are not [reserved](is_reserved). `None` where
/// there are none, so that most calls carry no map.
#[must_use]
pub fn custom(headers: &HeaderMap) -> Option<HeaderMap> {
    let mut custom = None;
    for (name, value) in headers {
        if !is_reserved(name) {
            custom
                .get_or_insert_with(HeaderMap::new)
                .append(name, value.clone());
        }
    }
    custom
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
        assert_eq!(custom(&headers(&all)), Some(headers(&own)));
        assert_eq!(custom(&headers(&of_the_connection)), None);
    }
}
