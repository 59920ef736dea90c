//! gRPC's length-prefixed messages, in and out.
//!
//! Done here rather than by tonic's client because the client hides what this program must know: whether
//! a status came from the store or was made up on this side, and whether a request ever left. It
//! also copies every message twice; here an answer that lies in one DATA frame is not copied.
//! Source: `PROTOCOL-HTTP2.md` of gRPC.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};
use hyper::body::{Body, Frame};
use tokio::sync::oneshot;

use crate::port::Requests;

/// A flag for compression and the message's length, before every message.
const PREFIX: usize = 5;

/// The longest answer that is taken: what etcd's own client takes (`math.MaxInt32`).
const LONGEST: usize = i32::MAX as usize;

/// The most that is set aside on the word of a length prefix alone.
const RESERVED: usize = 4 << 20;

/// A message with its prefix. Messages of 4 GiB do not exist: requests are bounded far below.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// What a request carries.
pub(super) enum RequestBody {
    /// The one message of a unary call, until it is taken.
    Single(Option<Bytes>),
    /// The messages of a streaming call.
    Stream {
        requests: Requests,
        /// Ends when the answers are dropped. Without it a stream that nobody reads would stay
        /// open for as long as its requests do: hyper resets it only when both sides are dropped.
        unwanted: oneshot::Receiver<Infallible>,
    },
}

impl RequestBody {
    pub(super) fn single(message: &[u8]) -> Self {
        Self::Single(Some(framed(message)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self.get_mut() {
            Self::Single(message) => Poll::Ready(message.take().map(|data| Ok(Frame::data(data)))),
            Self::Stream { requests, unwanted } => {
                if unwanted.poll_unpin(context).is_ready() {
                    // An error of this type makes hyper reset the stream with this reason. The
                    // end of the body would say that no request follows, which ends no watch.
                    return Poll::Ready(Some(Err(h2::Reason::CANCEL.into())));
                }
                let message = std::task::ready!(requests.poll_next_unpin(context));
                Poll::Ready(message.map(|message| Ok(Frame::data(framed(&message)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Single(None))
    }
}

/// Bytes that are no gRPC message of a call without compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("a compressed message, though none was asked for")]
    Compressed,
    #[error("a message of {0} bytes")]
    TooLong(usize),
}

/// Puts messages together from the pieces in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// What is left of the newest piece.
    piece: Bytes,
    /// The beginning of a message that began in an older piece; otherwise empty.
    begun: BytesMut,
}

impl Assembler {
    /// Takes the next piece; every message of the older ones has been taken.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.begun
            .extend_from_slice(&std::mem::replace(&mut self.piece, piece));
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// Where the bytes are none. The rest of the stream makes no sense then.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, FramingError> {
        if self.begun.is_empty() {
            let Some(whole) = whole_length(&self.piece)? else {
                return Ok(None);
            };
            if self.piece.len() < whole {
                return Ok(None);
            }
            let mut message = self.piece.split_to(whole);
            message.advance(PREFIX);
            return Ok(Some(message));
        }
        self.fill(PREFIX);
        let Some(whole) = whole_length(&self.begun)? else {
            return Ok(None);
        };
        self.begun
            .reserve(whole.min(RESERVED).saturating_sub(self.begun.len()));
        self.fill(whole);
        if self.begun.len() < whole {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.begun).freeze();
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Whether every byte was part of a message that was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.piece.is_empty()
    }

    /// Lengthens what has begun to `length`, as far as the piece goes.
    fn fill(&mut self, length: usize) {
        let missing = length
            .saturating_sub(self.begun.len())
            .min(self.piece.len());
        self.begun.extend_from_slice(&self.piece.split_to(missing));
    }
}

/// The length of the first message with its prefix, once the prefix is there.
fn whole_length(mut bytes: &[u8]) -> Result<Option<usize>, FramingError> {
    if bytes.len() < PREFIX {
        return Ok(None);
    }
    if bytes.get_u8() != 0 {
        return Err(FramingError::Compressed);
    }
    let length = usize::try_from(bytes.get_u32()).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(FramingError::TooLong(length));
    }
    Ok(Some(PREFIX + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut assembler = Assembler::default();
        let mut messages = Vec::new();
        for piece in pieces {
            assembler.push(Bytes::copy_from_slice(piece));
            while let Some(message) = assembler.take()? {
                messages.push(message.to_vec());
            }
        }
        assert!(assembler.is_empty());
        Ok(messages)
    }

    #[test]
    fn messages_come_out_whole_wherever_the_pieces_are_cut() {
        let messages: Vec<Vec<u8>> = vec![vec![], vec![1], vec![2; 7], vec![], vec![3; 300]];
        let whole: Vec<u8> = messages.iter().flat_map(|m| framed(m).to_vec()).collect();
        for length in 1..=whole.len() {
            let pieces: Vec<&[u8]> = whole.chunks(length).collect();
            assert_eq!(taken(&pieces).unwrap(), messages, "pieces of {length}");
        }
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let piece = framed(b"hello");
        let mut assembler = Assembler::default();
        assembler.push(piece.clone());
        let message = assembler.take().unwrap().unwrap();
        assert_eq!(message.as_ptr(), piece[PREFIX..].as_ptr());
    }

    #[test]
    fn nonsense_is_an_error() {
        assert_eq!(taken(&[&[1, 0, 0, 0, 0]]), Err(FramingError::Compressed));
        assert_eq!(
            taken(&[&[0, 0x80, 0, 0, 0]]),
            Err(FramingError::TooLong(1 << 31))
        );
        assert_eq!(
            taken(&[&[0, 0xff], &[0xff, 0xff, 0xff]]),
            Err(FramingError::TooLong((1 << 32) - 1))
        );
    }

    #[test]
    fn a_length_alone_sets_little_aside() {
        let mut assembler = Assembler::default();
        assembler.push(Bytes::from_static(&[0, 0x7f]));
        assert_eq!(assembler.take(), Ok(None));
        assembler.push(Bytes::from_static(&[0xff, 0xff, 0xff]));
        assert_eq!(assembler.take(), Ok(None));
        assert!(assembler.begun.capacity() <= 2 * RESERVED);
        assert!(!assembler.is_empty());
    }
}
