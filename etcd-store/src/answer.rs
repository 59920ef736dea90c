//! Reading what a store answers: messages, and the status at the end.

use h2::RecvStream;
use http::{Response, StatusCode};
use keyloom_etcd_api::{
    Metadata, Status,
    framing::{Assembler, Pieces},
    status,
};

use super::fault::Failure;

/// The longest answer that is taken: what etcd's own client takes (`math.MaxInt32`).
const LONGEST: usize = i32::MAX as usize;

/// The messages of an answer.
pub(super) struct Answer {
    body: RecvStream,
    assembler: Assembler,
    /// The status, if it came.
    status: Option<Result<(), Status>>,
    metadata: Metadata,
    trailers: Metadata,
}

impl Answer {
    /// # Errors
    /// Where the store refuses at once, or what answers is no gRPC server: a proxy's error page
    /// does not say what became of the request.
    pub(super) fn of(response: Response<RecvStream>) -> Result<Self, Failure> {
        let (head, body) = response.into_parts();
        let status = status::received(&head.headers);
        match status {
            Some(Err(status)) => return Err(Failure::refused(status)),
            None if head.status != StatusCode::OK => {
                let what = format!("HTTP status {} without a gRPC status", head.status);
                return Err(Failure::nonsense(what));
            }
            Some(Ok(())) | None => {}
        }
        Ok(Self {
            body,
            assembler: Assembler::up_to(LONGEST),
            status: status.map(|_| Ok(())),
            metadata: Metadata::of(&head.headers),
            trailers: Metadata::default(),
        })
    }

    /// The next message; none after the last, once the store said that it is well.
    pub(super) async fn next(&mut self) -> Result<Option<Pieces>, Failure> {
        loop {
            let message = self.assembler.take();
            let message = message.map_err(|error| Failure::nonsense(error.to_string()))?;
            if message.is_some() {
                return Ok(message);
            }
            let Some(piece) = self.body.data().await else {
                let trailers = self.body.trailers().await;
                let trailers = trailers.map_err(|error| Failure::of_answer(&error))?;
                let status = trailers.as_ref().and_then(status::received);
                self.status = status.or(self.status.take());
                self.trailers = trailers.as_ref().map(Metadata::of).unwrap_or_default();
                return self.end().map(|()| None);
            };
            let piece = piece.map_err(|error| Failure::of_answer(&error))?;
            // Fails where the stream has ended, and then nothing follows.
            self.body.flow_control().release_capacity(piece.len()).ok();
            self.assembler.push(piece);
        }
    }

    /// What came with the headers.
    pub(super) fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    /// What came with the trailers, once they have come.
    pub(super) fn trailers(&self) -> Metadata {
        self.trailers.clone()
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self.status.take() {
            None => Err(Failure::nonsense("an answer without a status")),
            Some(Err(status)) => Err(Failure::refused(status)),
            Some(Ok(())) if !self.assembler.is_empty() => {
                Err(Failure::nonsense("an answer that ends within a message"))
            }
            Some(Ok(())) => Ok(()),
        }
    }
}

/// The one message of a unary call.
pub(super) async fn unary(
    response: Response<RecvStream>,
) -> Result<keyloom_store::Answer, Failure> {
    let mut answer = Answer::of(response)?;
    let Some(message) = answer.next().await? else {
        return Err(Failure::nonsense("an answer without a message"));
    };
    match answer.next().await? {
        None => Ok(keyloom_store::Answer {
            message,
            metadata: answer.metadata,
            trailers: answer.trailers,
        }),
        Some(_) => Err(Failure::nonsense("two messages for one call")),
    }
}
