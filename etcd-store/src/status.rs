//! A status as the store sent it.
//!
//! Not tonic's `Status::from_header_map`: that panics where the details are not base64, and a
//! store may send anything. What a status lacks or garbles is left out; its code and text stay.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;
use keyloom_etcd_api::EtcdError;
use percent_encoding::percent_decode;
use tonic::{Code, Status};

/// gRPC: "implementations must accept padded and un-padded values".
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The status that headers or trailers carry, if they carry one; an error where it is one.
pub(super) fn received(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get("grpc-status")?;
    // Most calls end so, and then nothing else is said.
    if code.as_bytes() == b"0" {
        return Some(Ok(()));
    }
    let code = code.to_str().ok().and_then(|text| text.parse().ok());
    let message = headers
        .get("grpc-message")
        .map_or_else(String::new, |text| {
            percent_decode(text.as_bytes())
                .decode_utf8_lossy()
                .into_owned()
        });
    let details = headers.get("grpc-status-details-bin");
    let details = details.and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let code = code.map_or(Code::Unknown, Code::from_i32);
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let details = details.unwrap_or_default().into();
    Some(Err(Status::with_details(code, message, details)))
}

/// Whether the endpoint says of itself that it cannot answer now, so that another one of the
/// same store may.
pub(super) fn is_of_the_endpoint(status: &Status) -> bool {
    status.code() == Code::Unavailable
        || EtcdError::of(status) == Some(EtcdError::NotSupportedForLearner)
}

/// Whether a new token may help. All three are answered before anything is executed: the first
/// two when the token is looked at, the last when the entry is applied (etcd's
/// `server/etcdserver/apply/apply_auth.go`), so that even a write may be sent again.
pub(super) fn asks_for_a_token(status: &Status) -> bool {
    matches!(
        EtcdError::of(status),
        Some(EtcdError::InvalidAuthToken | EtcdError::UserEmpty | EtcdError::AuthOldRevision)
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Lines = [(&'static str, &'static [u8])];

    fn headers(lines: &Lines) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static [u8])| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_bytes(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn code_text_and_details_are_the_stores_own() {
        let table: &[(&Lines, Code, &str, &[u8])] = &[
            (
                &[
                    ("grpc-status", b"11"),
                    ("grpc-message", b"etcdserver: mvcc: x"),
                ],
                Code::OutOfRange,
                "etcdserver: mvcc: x",
                b"",
            ),
            (
                &[
                    ("grpc-status", b"9"),
                    ("grpc-message", b"50%25 of %e2%98%ba"),
                ],
                Code::FailedPrecondition,
                "50% of \u{263a}",
                b"",
            ),
            (
                &[
                    ("grpc-status", b"5"),
                    ("grpc-status-details-bin", b"AQID/w=="),
                ],
                Code::NotFound,
                "",
                &[1, 2, 3, 255],
            ),
            (
                &[
                    ("grpc-status", b"5"),
                    ("grpc-status-details-bin", b"AQID/w"),
                ],
                Code::NotFound,
                "",
                &[1, 2, 3, 255],
            ),
            // Nonsense does no harm.
            (
                &[("grpc-status", b"5"), ("grpc-status-details-bin", b"!!!")],
                Code::NotFound,
                "",
                b"",
            ),
            (&[("grpc-status", b"")], Code::Unknown, "", b""),
            (&[("grpc-status", b"4711")], Code::Unknown, "", b""),
            (&[("grpc-status", b"\xff")], Code::Unknown, "", b""),
            (
                &[("grpc-status", b"2"), ("grpc-message", b"%ff%zz%")],
                Code::Unknown,
                "\u{fffd}%zz%",
                b"",
            ),
        ];
        for (lines, code, message, details) in table {
            let status = received(&headers(lines)).unwrap().unwrap_err();
            assert_eq!(status.code(), *code, "{lines:?}");
            assert_eq!(status.message(), *message, "{lines:?}");
            assert_eq!(status.details(), *details, "{lines:?}");
        }
        assert!(received(&headers(&[("content-type", b"application/grpc")])).is_none());
        for ok in [b"0".as_slice(), b"00"] {
            assert!(matches!(
                received(&headers(&[("grpc-status", ok)])),
                Some(Ok(()))
            ));
        }
    }

    #[test]
    fn which_refusals_another_endpoint_may_not_share() {
        for &error in EtcdError::ALL {
            let expected = matches!(
                error,
                EtcdError::NoLeader
                    | EtcdError::LeaderChanged
                    | EtcdError::Stopped
                    | EtcdError::Timeout
                    | EtcdError::TimeoutDueToLeaderFail
                    | EtcdError::TimeoutDueToConnectionLost
                    | EtcdError::TimeoutWaitAppliedIndex
                    | EtcdError::Unhealthy
                    | EtcdError::NotSupportedForLearner
            );
            assert_eq!(is_of_the_endpoint(&error.into()), expected, "{error:?}");
        }
        assert!(is_of_the_endpoint(&Status::unavailable("anything")));
    }

    #[test]
    fn which_refusals_a_new_token_may_cure() {
        for &error in EtcdError::ALL {
            let expected = matches!(
                error,
                EtcdError::InvalidAuthToken | EtcdError::UserEmpty | EtcdError::AuthOldRevision
            );
            assert_eq!(asks_for_a_token(&error.into()), expected, "{error:?}");
        }
        // Somebody else's refusal of somebody else's token.
        assert!(!asks_for_a_token(&Status::unauthenticated("no")));
    }
}
