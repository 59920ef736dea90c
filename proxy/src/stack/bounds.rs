//! How long a call may take, and how large its request may be.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Response};
use keyloom_etcd_api::Status;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Timeout, timeout_at};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{call::Call, reply};

/// What etcd's server allows on top of `--max-request-bytes` (`grpcOverheadBytes` in
/// `server/etcdserver/api/v3rpc/grpc.go`).
const OVERHEAD: usize = 512 << 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    max_request_bytes: usize,
}

impl Bounds {
    pub(super) fn new(max_request_bytes: usize) -> Self {
        Self { max_request_bytes }
    }
}

impl<S> Layer<S> for Bounds {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        let max_message = self.max_request_bytes.saturating_add(OVERHEAD);
        Bounded { inner, max_message }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    max_message: usize,
}

impl<S> Service<Call> for Bounded<S>
where
    S: Service<Call, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Bounding<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        call.max_message = self.max_message;
        // A stream goes on until its client ends it.
        if !call.kind.is_stream() {
            call.context.deadline = deadline_of(call.request.headers());
        }
        let deadline = call.context.deadline;
        let answer = self.inner.call(call);
        match deadline {
            None => Bounding::Free { answer },
            Some(deadline) => Bounding::Timed {
                answer: timeout_at(deadline, answer),
            },
        }
    }
}

pin_project! {
    /// A call that is being answered, and when that ends.
    #[project = Projected]
    pub(super) enum Bounding<F> {
        Free { #[pin] answer: F },
        Timed { #[pin] answer: Timeout<F> },
    }
}

impl<F> Future for Bounding<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Free { answer } => answer.poll(context),
            Projected::Timed { answer } => answer.poll(context).map(|answer| {
                answer.unwrap_or_else(|_| {
                    let status = Status::deadline_exceeded("context deadline exceeded");
                    Ok(reply::refusal(&status))
                })
            }),
        }
    }
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, Requests).
pub(super) fn deadline_of(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    Instant::now().checked_add(timeout_of(text)?)
}

fn timeout_of(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("20M", Some(Duration::from_secs(1200))),
            ("2S", Some(Duration::from_secs(2))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("15u", Some(Duration::from_micros(15))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("123456789S", None),
            ("1X", None),
            ("1ä", None),
        ] {
            assert_eq!(timeout_of(text), expected, "{text:?}");
        }
    }
}
