//! The status that ends a gRPC call: code, text, details, and whatever else a store sent with it.
//!
//! A type of our own, so that the rooms that only decide link no HTTP. `headers` holds the way to
//! HTTP's trailers and back.

mod headers;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::HeaderMap;

use crate::Metadata;

pub use headers::received;

/// A code of gRPC (`statuscodes.md` in gRPC's documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// Every code, at its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of a number; a number that gRPC does not define is `Unknown`.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        let code = usize::try_from(number).ok();
        let code = code.and_then(|number| Self::ALL.get(number));
        code.copied().unwrap_or(Self::Unknown)
    }

    /// As it goes over the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The name in gRPC's documentation, as grpc-go writes it (`codes.Code.String`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call ended that has no answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    /// An encoded `google.rpc.Status`, if anything.
    details: Bytes,
    /// What came with it that gRPC itself does not define.
    metadata: Metadata,
}

impl Status {
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Bytes::new(),
            metadata: Metadata::default(),
        }
    }

    /// With details as they go over the wire: an encoded `google.rpc.Status`.
    #[must_use]
    pub fn with_details(mut self, details: Bytes) -> Self {
        self.details = details;
        self
    }

    /// With headers that gRPC itself does not define. Those that it does are left out.
    #[must_use]
    pub fn with_metadata(mut self, metadata: &HeaderMap) -> Self {
        self.metadata = Metadata::of(metadata);
        self
    }

    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The text that the client sees.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An encoded `google.rpc.Status`; empty where there is none.
    #[must_use]
    pub fn details(&self) -> &[u8] {
        &self.details
    }

    /// The headers that came with it and that gRPC itself does not define.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    #[must_use]
    pub fn cancelled(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Cancelled, message)
    }

    #[must_use]
    pub fn unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unknown, message)
    }

    #[must_use]
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    #[must_use]
    pub fn deadline_exceeded(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::DeadlineExceeded, message)
    }

    #[must_use]
    pub fn resource_exhausted(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    #[must_use]
    pub fn unimplemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    #[must_use]
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, message)
    }

    #[must_use]
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    #[must_use]
    pub fn data_loss(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::DataLoss, message)
    }

    #[must_use]
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }
}

/// Metadata may hold a token: only the names are shown.
impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Status");
        shown
            .field("code", &self.code)
            .field("message", &self.message);
        if !self.details.is_empty() {
            shown.field("details", &self.details);
        }
        if !self.metadata.is_empty() {
            shown.field("metadata", &self.metadata);
        }
        shown.finish()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_at_their_numbers() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::try_from(code.number()), Ok(number));
            assert_eq!(Code::from_number(code.number()), code);
        }
        for number in [-1, 17, i32::MAX, i32::MIN] {
            assert_eq!(Code::from_number(number), Code::Unknown);
        }
    }

    #[test]
    fn what_a_log_shows_holds_no_token() {
        let mut metadata = HeaderMap::new();
        metadata.insert("token", "secret.7".parse().unwrap());
        let status = Status::unavailable("gone").with_metadata(&metadata);
        assert_eq!(status.to_string(), "gone (code Unavailable)");
        let shown = format!("{status:?}");
        assert!(
            shown.contains("token") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
