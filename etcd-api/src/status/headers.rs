//! A status as HTTP headers, and back (gRPC over HTTP/2, "Responses").

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use super::{Code, Status};
use crate::Metadata;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// What `grpc-message` escapes: all but space to `~`, and `%` itself.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// gRPC: "implementations must accept padded and un-padded values".
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The status that headers or trailers carry, if they carry one; an error where it is one. A peer
/// may send anything: what a status lacks or garbles is left out; its code and text stay.
#[must_use]
pub fn received(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get(STATUS)?;
    // Most calls end so, and then nothing else is said.
    if code.as_bytes() == b"0" {
        return Some(Ok(()));
    }
    let code = code.to_str().ok().and_then(|text| text.parse().ok());
    let code = code.map_or(Code::Unknown, Code::from_number);
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let message = headers.get(MESSAGE).map_or(Cow::Borrowed(""), |text| {
        let text = percent_decode(text.as_bytes()).decode_utf8_lossy();
        Cow::Owned(text.into_owned())
    });
    let details = headers.get(DETAILS);
    let details = details.and_then(|text| BASE64.decode(text.as_bytes()).ok());
    Some(Err(Status {
        code,
        message,
        details: details.unwrap_or_default().into(),
        metadata: Metadata::of(headers),
    }))
}

impl Status {
    /// The trailers that end a call so.
    #[must_use]
    pub fn to_trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        self.metadata.add_to(&mut trailers);
        trailers.insert(STATUS, self.code.number().into());
        if !self.message.is_empty() {
            let text: String = percent_encode(self.message.as_bytes(), ESCAPED).collect();
            // What is escaped is always a header's value.
            if let Ok(text) = HeaderValue::try_from(text) {
                trailers.insert(MESSAGE, text);
            }
        }
        if !self.details.is_empty()
            && let Ok(text) = HeaderValue::try_from(BASE64.encode(&self.details))
        {
            trailers.insert(DETAILS, text);
        }
        trailers
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    type Lines = [(&'static str, &'static [u8])];

    fn headers(lines: &Lines) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static [u8])| {
            let name = HeaderName::from_static(name);
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
            assert!(status.metadata().is_empty(), "{lines:?}");
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
    fn headers_that_grpc_does_not_define_come_with_it() {
        let sent = headers(&[
            ("grpc-status", b"7"),
            ("content-type", b"application/grpc"),
            ("x-reason", b"one"),
            ("x-reason", b"two"),
            ("trace-bin", b"AAEC"),
        ]);
        let status = received(&sent).unwrap().unwrap_err();
        let expected = headers(&[
            ("x-reason", b"one"),
            ("x-reason", b"two"),
            ("trace-bin", b"AAEC"),
        ]);
        assert_eq!(*status.metadata(), Metadata::of(&expected));
        let trailers = status.to_trailers();
        assert_eq!(received(&trailers), Some(Err(status)));
        assert_eq!(trailers.get_all("x-reason").iter().count(), 2);
        assert_eq!(trailers.get("content-type"), None);
    }

    #[test]
    fn a_text_is_escaped_as_grpc_says() {
        for (text, expected) in [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("50%\n\u{263a}~", "50%25%0A%E2%98%BA~"),
        ] {
            let trailers = Status::unknown(text).to_trailers();
            assert_eq!(trailers.get("grpc-message").unwrap(), expected);
        }
        let plain = Status::new(Code::NotFound, "").to_trailers();
        assert_eq!(plain, headers(&[("grpc-status", b"5")]));
    }

    proptest! {
        #[test]
        fn a_status_survives_the_way(
            number in 1..17,
            message in ".*",
            details in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let status = Status::new(Code::from_number(number), message)
                .with_details(Bytes::from(details));
            prop_assert_eq!(received(&status.to_trailers()), Some(Err(status)));
        }
    }
}
