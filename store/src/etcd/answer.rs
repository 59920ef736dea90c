//! Reading what a store answers: messages, and the status at the end.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tonic::{Code, Status};

use super::{fault::Failure, framing::Assembler, status};

/// The messages of an answer.
pub(super) struct Answer {
    body: Incoming,
    assembler: Assembler,
    /// The status, if it came.
    status: Option<Status>,
}

impl Answer {
    /// # Errors
    /// Where the store refuses at once, or what answers is no gRPC server: a proxy's error page
    /// does not say what became of the request.
    pub(super) fn of(response: Response<Incoming>) -> Result<Self, Failure> {
        let (head, body) = response.into_parts();
        let status = status::received(&head.headers);
        match &status {
            Some(status) if status.code() != Code::Ok => {
                return Err(Failure::refused(status.clone()));
            }
            None if head.status != StatusCode::OK => {
                let what = format!("HTTP status {} without a gRPC status", head.status);
                return Err(Failure::nonsense(what));
            }
            Some(_) | None => {}
        }
        Ok(Self {
            body,
            assembler: Assembler::default(),
            status,
        })
    }

    /// The next message; none after the last, once the store said that it is well.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let message = self.assembler.take();
            let message = message.map_err(|error| Failure::nonsense(error.to_string()))?;
            if message.is_some() {
                return Ok(message);
            }
            let Some(frame) = self.body.frame().await else {
                return self.end().map(|()| None);
            };
            match frame
                .map_err(|error| Failure::of_answer(&error))?
                .into_data()
            {
                Ok(piece) => self.assembler.push(piece),
                Err(frame) => {
                    let trailers = frame.trailers_ref();
                    self.status = trailers.and_then(status::received).or(self.status.take());
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self.status.take() {
            None => Err(Failure::nonsense("an answer without a status")),
            Some(status) if status.code() != Code::Ok => Err(Failure::refused(status)),
            Some(_) if !self.assembler.is_empty() => {
                Err(Failure::nonsense("an answer that ends within a message"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The one message of a unary call.
pub(super) async fn unary(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let mut answer = Answer::of(response)?;
    let Some(message) = answer.next().await? else {
        return Err(Failure::nonsense("an answer without a message"));
    };
    match answer.next().await? {
        None => Ok(message),
        Some(_) => Err(Failure::nonsense("two messages for one call")),
    }
}
